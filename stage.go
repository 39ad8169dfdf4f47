package crosscomm

import (
	"errors"
	"fmt"
	"slices"
)

// Stage is how far a message has come on its way to a receiver. Each stage
// includes those before it.
type Stage int

// The stages. How far a sender waits is up to it: see [Service.Deliver].
const (
	// Sent is what a SendMessage without a stage waits for: a client has written
	// the message to its link. Of a server that is no more than being queued for
	// the receiver's connection.
	Sent Stage = iota
	// Accepted: the message is safe with the server. It has been handled already,
	// or it is on the server's disk until it is. Of a message to [All] or to
	// [ServerID], and of a server that keeps no queues (see [Config.DataDir]), it means
	// that the server has it in its memory, and no more.
	Accepted
	// Written: the receiver's program has read it from its connection, too.
	Written
	// Handled: the receiver's listeners have returned without an error. A receiver
	// that speaks only the original's wire tells nothing of its listeners: it
	// counts as having handled what is written to it.
	Handled
)

var stageNames = [...]string{"sent", "accepted", "written", "handled"}

// String returns the name of the stage, as it is on the wire.
func (s Stage) String() string {
	if s < 0 || int(s) >= len(stageNames) {
		return fmt.Sprintf("Stage(%d)", int(s))
	}
	return stageNames[s]
}

// check says what is wrong with a stage that somebody wants to wait for.
func (s Stage) check() error {
	if s < Sent || s > Handled {
		return fmt.Errorf("%v is no stage: it must be Sent, Accepted, Written or Handled", s)
	}
	return nil
}

// stageNamed returns the stage of that name, and Sent for any other text.
func stageNamed(name string) Stage {
	for s := Accepted; s <= Handled; s++ {
		if stageNames[s] == name {
			return s
		}
	}
	return Sent
}

// Receipt tells how far a message has come.
type Receipt struct {
	MsgID   string // of the message on the wire
	Reached Stage
	// The rest is of a message to [All]: for how many clients it was, how many of
	// them it reached at each stage, up to the one that was waited for, and for how many
	// it failed. A stage counts those where it came further, too.
	Receivers                          int
	Accepted, Written, Handled, Failed int
}

// DeliveryError tells that a message has not come as far as its sender waited for.
// Err is what [errors.Is] finds: [ErrUnknownClient], [ErrOffline], [ErrQueueFull],
// [ErrExpired], [ErrTooLarge], [ErrNoListener], [ErrListener], [ErrNoReply], [ErrNoReceipts], or
// the error of the context, or of the link, whose end came first; then the message
// may still arrive.
type DeliveryError struct {
	MsgID   string
	To      string
	Reached Stage // how far it has come for sure
	Err     error
}

func (e *DeliveryError) Error() string {
	text := fmt.Sprintf("message %s to %q: %v", e.MsgID, e.To, e.Err)
	if e.Reached > Sent {
		text += fmt.Sprintf(" (it was %v)", e.Reached)
	}
	return text
}

// Unwrap returns Err.
func (e *DeliveryError) Unwrap() error { return e.Err }

// failure is why a message was not handled, as it is on the wire.
type failure string

// The failures; "" is none.
const (
	failedUnknown  failure = "unknown_client"
	failedOffline  failure = "offline"
	failedFull     failure = "queue_full"
	failedExpired  failure = "expired"
	failedTooLarge failure = "too_large"
	failedUnheard  failure = "no_listener"
	failedListener failure = "listener_error"
	failedReply    failure = "no_reply"

	// unfinished is what is never told: the end of the link, or of this program's
	// listeners, came first, and the message is sent again.
	unfinished failure = "unfinished"
)

// tellable are those that a sender may be told; the first one is for none.
var tellable = [...]failure{"", failedUnknown, failedOffline, failedFull, failedExpired, failedTooLarge, failedUnheard, failedListener, failedReply}

// code returns the place of the failure among the tellable ones.
func (f failure) code() uint8 {
	i := slices.Index(tellable[:], f)
	if i < 0 {
		panic("crosscomm: a sender is told of a failure that has no code: " + string(f))
	}
	return uint8(i)
}

// reached returns how far a message has come for sure that failed so.
func (f failure) reached() Stage {
	switch f {
	case failedUnheard, failedListener:
		return Written
	}
	return Sent // also of failedReply: a plain receiver is not even sent the request
}

// err returns the error that stands for the failure, with the reason that the other
// end gave.
func (f failure) err(reason string) error {
	var kind error
	switch f {
	case failedUnknown:
		kind = ErrUnknownClient
	case failedOffline:
		kind = ErrOffline
	case failedFull:
		kind = ErrQueueFull
	case failedExpired:
		kind = ErrExpired
	case failedTooLarge:
		kind = ErrTooLarge
	case failedUnheard:
		kind = ErrNoListener
	case failedListener:
		kind = ErrListener
	case failedReply:
		kind = ErrNoReply
	default:
		return errors.New(string(f) + ": " + reason)
	}
	if reason == "" {
		return kind
	}
	return fmt.Errorf("%w: %s", kind, reason)
}
