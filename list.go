package crosscomm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

const (
	// listTimeout bounds ListClients if its context has no deadline.
	listTimeout = 5 * time.Second
	// answerLost is when an answer that nobody waits for any more is no longer
	// expected either.
	answerLost = 30 * time.Second
)

// listCall is a list_clients request under way. Its answer carries nothing to
// know it by, but servers answer in order: so a call whose caller has given up
// stays in the line, for its answer, should it still come, not to be taken for
// the next one's.
type listCall struct {
	sent    time.Time
	answers chan listAnswer // has room for the one answer
}

type listAnswer struct {
	list *ClientList
	err  error
}

// list is Service.ListClients.
func (c *client) list(ctx context.Context, onlyOnline bool) (*ClientList, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, listTimeout, fmt.Errorf("no answer within %v: %w", listTimeout, context.DeadlineExceeded))
		defer cancel()
	}
	content := frame.AppendString(nil, `{"only_show_online": `+strconv.FormatBool(onlyOnline)+`}`)
	for {
		current, err := c.session(ctx)
		if err != nil {
			return nil, fmt.Errorf("crosscomm: ListClients: %w", err)
		}
		call := current.request(c.s.newFrame(c.s.cfg.ClientID, TypeListClients, ServerID, content))
		select {
		case answer := <-call.answers:
			if answer.err != nil {
				return nil, fmt.Errorf("crosscomm: ListClients: %w", answer.err)
			}
			return answer.list, nil
		case <-current.done: // asking again is harmless
		case <-ctx.Done():
			return nil, fmt.Errorf("crosscomm: ListClients: %w", context.Cause(ctx))
		}
	}
}

// request sends a list_clients frame. The line of calls and the order on the
// wire are the same, because both are made under the lock.
func (t *session) request(data []byte) *listCall {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.lists = slices.DeleteFunc(t.lists, func(c *listCall) bool { return now.Sub(c.sent) > answerLost })
	call := &listCall{sent: now, answers: make(chan listAnswer, 1)}
	t.lists = append(t.lists, call)
	_ = t.link.Send(data, nil) // if it fails the session is ending, and done tells
	return call
}

// listAnswered brings an answer to the oldest call.
func (t *session) listAnswered(m *Message) {
	list, err := parseClientList(m)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lists) == 0 {
		return
	}
	t.lists[0].answers <- listAnswer{list, err}
	t.lists = t.lists[1:]
}
