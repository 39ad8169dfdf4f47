package backlog

import (
	"cmp"
	"slices"
)

// group is what becomes one transaction. Of each message only the last word
// counts.
type group struct {
	clients  map[string]*[]op
	expiries []*expiry
	waiters  []waiter      // in the order in which they came
	after    []func(error) // called after all waiters, and after what was dropped
	bytes    int64         // what it takes in memory, about
}

// op puts or deletes one message.
type op struct {
	seq    uint64
	record []byte // nil to delete it
	time   int64  // in ns since 1970
	waiter int
}

// waiter is who wants to know the outcome.
type waiter struct {
	done    func(error)
	put     bool
	err     error // known before
	settled bool  // it does not need the commit
}

func newGroup() *group { return &group{clients: map[string]*[]op{}} }

// isEmpty reports whether there is nothing to do for it.
func (g *group) isEmpty() bool {
	return len(g.clients) == 0 && len(g.expiries) == 0 && len(g.waiters) == 0 && len(g.after) == 0
}

// wait adds one who waits. If there is an error already, that is the outcome.
func (g *group) wait(done func(error), put bool, err error) (index int) {
	if done == nil {
		done = func(error) {}
	}
	g.waiters = append(g.waiters, waiter{done: done, put: put, err: err, settled: err != nil})
	g.bytes += overhead
	return len(g.waiters) - 1
}

// settle says that the outcome for a waiter is known: that of its err.
func (g *group) settle(index int) { g.waiters[index].settled = true }

// ops returns those of a client, by ascending seq.
func (g *group) ops(client string) []op {
	if ops := g.clients[client]; ops != nil {
		return *ops
	}
	return nil
}

// find returns where the one of a seq is among the ops, or belongs.
func find(ops []op, seq uint64) (int, bool) {
	if n := len(ops); n == 0 || ops[n-1].seq < seq { // nearly always
		return n, false
	}
	return slices.BinarySearchFunc(ops, seq, func(o op, seq uint64) int { return cmp.Compare(o.seq, seq) })
}

func (g *group) has(client string, seq uint64) bool {
	_, found := find(g.ops(client), seq)
	return found
}

// last returns the highest seq that is put.
func (g *group) last(client string) (seq uint64, ok bool) {
	for _, o := range slices.Backward(g.ops(client)) {
		if o.record != nil {
			return o.seq, true
		}
	}
	return 0, false
}

// put adds an op, which takes the place of what there was for the message.
func (g *group) put(client string, o op) {
	ops := g.clients[client]
	if ops == nil {
		ops = new([]op)
		g.clients[client] = ops
	}
	g.bytes += int64(len(o.record))
	i, found := find(*ops, o.seq)
	if found {
		g.bytes -= int64(len((*ops)[i].record))
		(*ops)[i] = o
		return
	}
	*ops = slices.Insert(*ops, i, o)
}

// delete adds the deletion of a message, and reports whether that needs a commit.
// One that is not stored, but to be put here, is forgotten, which is fine for who
// waits for it.
func (g *group) delete(client string, seq uint64, mayBeStored bool) (needed bool) {
	if mayBeStored {
		g.bytes += overhead
		g.put(client, op{seq: seq})
		return true
	}
	i, found := find(g.ops(client), seq)
	if !found || g.ops(client)[i].record == nil {
		return false
	}
	ops := g.clients[client]
	g.bytes -= int64(len((*ops)[i].record))
	g.settle((*ops)[i].waiter)
	if *ops = slices.Delete(*ops, i, i+1); len(*ops) == 0 {
		delete(g.clients, client)
	}
	return false
}
