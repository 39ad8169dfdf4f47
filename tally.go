package crosscomm

import "sync"

// tally waits until all listeners that a message is for are done with it. It may be
// used concurrently; a nil one counts nothing.
type tally struct {
	done func(handling) // called once

	mu      sync.Mutex
	left    int // listeners, and one more until close
	heard   bool
	outcome handling
}

// handling is what has become of a message at its receiver.
type handling struct {
	failure failure // "" if it was handled
	reason  string
}

func newTally(done func(handling)) *tally { return &tally{done: done, left: 1} }

// add counts one listener that the message is for.
func (t *tally) add() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard = true
	t.left++
}

// end counts one that is done with it. What keeps the message from being told of
// outweighs the first failure, and that one all that went well.
func (t *tally) end(h handling) {
	if t == nil {
		return
	}
	t.mu.Lock()
	if h.failure == unfinished || t.outcome.failure == "" && h.failure != "" {
		t.outcome = h
	}
	t.left--
	last := t.left == 0
	outcome := t.outcome
	t.mu.Unlock()
	if last {
		t.done(outcome)
	}
}

// close is called when all have been added.
func (t *tally) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	heard := t.heard
	t.mu.Unlock()
	if heard {
		t.end(handling{})
	} else {
		t.end(handling{failure: failedUnheard})
	}
}
