package objects

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/bbolt"
)

// committer joins changes of the index, since a commit costs two syncs however
// much it changes. A change that comes alone is committed at once; those that
// come meanwhile are one transaction after it. It is what bbolt's Batch does,
// without the time that Batch lets a lone change wait for company.
type committer struct {
	db *bbolt.DB
	// syncDir makes the names of new blobs durable. It runs before a
	// transaction that points to them, once for all of them.
	syncDir func() error

	mu      sync.Mutex
	busy    bool // somebody is committing
	waiting []*change
}

// change is a function to run in a transaction, and who waits for it.
type change struct {
	fn       func(*bbolt.Tx) error
	hasBlobs bool
	outcome  chan outcome // never blocks who sends
}

type outcome struct {
	lead bool // nothing has happened yet: it is for the receiver to commit
	err  error
}

// commitError is the error of a transaction as such, as opposed to that of a
// function in it.
type commitError struct{ err error }

func (e *commitError) Error() string { return "the index: " + e.err.Error() }

func (e *commitError) Unwrap() error { return e.err }

// update runs fn in a transaction, which may be that of others too: fn may run
// several times, and only the last time counts. Set hasBlobs if fn points to
// new blobs.
func (c *committer) update(hasBlobs bool, fn func(*bbolt.Tx) error) error {
	own := &change{fn: fn, hasBlobs: hasBlobs, outcome: make(chan outcome, 1)}
	c.mu.Lock()
	c.waiting = append(c.waiting, own)
	lead := !c.busy
	c.busy = true
	c.mu.Unlock()
	if !lead {
		if o := <-own.outcome; !o.lead {
			return o.err
		}
	}
	c.mu.Lock()
	group := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	c.commit(group)
	// One who has been served does not go on serving others.
	c.mu.Lock()
	if len(c.waiting) > 0 {
		c.waiting[0].outcome <- outcome{lead: true}
	} else {
		c.busy = false
	}
	c.mu.Unlock()
	return (<-own.outcome).err
}

// commit runs the changes, and tells each one's outcome. One that fails is
// taken out, and run alone afterwards: what made it fail may be another one.
func (c *committer) commit(group []*change) {
	if slices.ContainsFunc(group, func(ch *change) bool { return ch.hasBlobs }) {
		if err := c.syncDir(); err != nil {
			for _, ch := range group {
				ch.outcome <- outcome{err: &commitError{err}}
			}
			return
		}
	}
	var alone []*change
	for len(group) > 0 {
		failed, err := c.run(group)
		if failed >= 0 && len(group) > 1 {
			alone = append(alone, group[failed])
			group = slices.Delete(group, failed, failed+1)
			continue
		}
		for _, ch := range group {
			ch.outcome <- outcome{err: err}
		}
		break
	}
	for _, ch := range alone {
		_, err := c.run([]*change{ch})
		ch.outcome <- outcome{err: err}
	}
}

// run runs the changes as one transaction. If it is a change that fails it says
// which, and else -1.
func (c *committer) run(group []*change) (failed int, err error) {
	running := -1
	defer func() {
		// A panic here would leave those who wait waiting.
		if p := recover(); p != nil {
			failed, err = running, fmt.Errorf("panic in a transaction: %v", p)
		}
		if failed < 0 && err != nil {
			err = &commitError{err}
		}
	}()
	err = c.db.Update(func(tx *bbolt.Tx) error {
		for i, ch := range group {
			running = i
			if err := ch.fn(tx); err != nil {
				return err
			}
		}
		running = -1
		return nil
	})
	return running, err
}

// mayHaveCommitted reports whether the transaction failed as such. If it was its
// last sync that failed, the index may have the change all the same.
func mayHaveCommitted(err error) bool {
	var e *commitError
	return errors.As(err, &e)
}
