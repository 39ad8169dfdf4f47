package crosscomm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// listTimeout bounds ListClients if its context has no deadline.
const listTimeout = 5 * time.Second

// ClientList is the answer to [Service.ListClients]. Its JSON is the
// original's.
type ClientList struct {
	Clients        []ClientInfo `json:"clients"`
	TotalCount     int          `json:"total_count"` // more than are in Clients if they do not fit in a message
	OnlyShowOnline bool         `json:"only_show_online"`
}

// ClientInfo is what a server knows of a client. Its JSON is the original's:
// client_id, status ("online" or "offline"), last_heartbeat and login_time in
// seconds since 1970, the latter null if it is not known.
type ClientInfo struct {
	ClientID      string
	Online        bool
	LastHeartbeat time.Time // the last sign of life
	LoginTime     time.Time // zero if it has not logged in since the server started
}

type wireClientInfo struct {
	ClientID      string   `json:"client_id"`
	Status        string   `json:"status"`
	LastHeartbeat float64  `json:"last_heartbeat"`
	LoginTime     *float64 `json:"login_time"`
}

// MarshalJSON implements json.Marshaler.
func (c ClientInfo) MarshalJSON() ([]byte, error) {
	w := wireClientInfo{ClientID: c.ClientID, Status: statusOffline, LastHeartbeat: toSeconds(c.LastHeartbeat)}
	if c.Online {
		w.Status = statusOnline
	}
	if !c.LoginTime.IsZero() {
		login := toSeconds(c.LoginTime)
		w.LoginTime = &login
	}
	return json.Marshal(w)
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *ClientInfo) UnmarshalJSON(data []byte) error {
	var w wireClientInfo
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*c = ClientInfo{ClientID: w.ClientID, Online: w.Status == statusOnline, LastHeartbeat: fromSeconds(w.LastHeartbeat)}
	if w.LoginTime != nil {
		c.LoginTime = fromSeconds(*w.LoginTime)
	}
	return nil
}

// listClients answers a client as the original does: the content is a string
// of JSON.
func (p *peer) listClients(f frame.Frame) {
	onlyOnline := wantsOnlyOnline(f.Content)
	list := ClientList{Clients: p.server.hub.list(onlyOnline), OnlyShowOnline: onlyOnline}
	list.TotalCount = len(list.Clients)
	limit := min(p.server.s.cfg.MaxMessageSize, p.takes)
	most := limit / leastListed
	if list.TotalCount > most { // to write them all would cost too much
		sortByPresence(list.Clients)
		list.Clients = list.Clients[:most]
	}
	response, err := p.server.listResponse(p.id, list)
	if err == nil && len(response) > limit {
		// It would cost the receiver its link; total_count tells that some are missing.
		if list.TotalCount <= most {
			sortByPresence(list.Clients)
		}
		for err == nil && len(response) > limit && len(list.Clients) > 0 {
			list.Clients = list.Clients[:int(float64(len(list.Clients))*float64(limit)/float64(len(response))*0.95)]
			response, err = p.server.listResponse(p.id, list)
		}
		p.server.stats.warnings.warn(p.log(), "the list of clients is too large for a message and is cut", "clients", list.TotalCount, "listed", len(list.Clients))
	}
	if err != nil {
		p.log().Error("cannot write the list of clients", "error", err)
		return
	}
	p.server.tell(p, response)
	// Not only when the input is used up, as for messages: there may be hundreds of
	// requests in it.
	p.link.Flush()
	p.link.Pause(p.slowDown(list.TotalCount, 0))
}

// leastListed is how many bytes a client takes at least in a list.
const leastListed = len(`{"client_id":"x","status":"online","last_heartbeat":0,"login_time":null},`)

// sortByPresence has those who are online come first, and then those seen last.
func sortByPresence(list []ClientInfo) {
	slices.SortStableFunc(list, func(a, b ClientInfo) int {
		if a.Online != b.Online {
			if a.Online {
				return -1
			}
			return 1
		}
		return b.LastHeartbeat.Compare(a.LastHeartbeat)
	})
}

func (srv *server) listResponse(to string, list ClientList) ([]byte, error) {
	raw, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return srv.s.newFrame(TypeListClientsResponse, to, frame.AppendString(nil, string(raw))), nil
}

// wantsOnlyOnline reads the content of list_clients: a string of JSON, or an
// object; what does not parse counts as false.
func wantsOnlyOnline(content []byte) bool {
	if s, ok := frame.Unquote(content); ok {
		content = []byte(s)
	}
	var request struct {
		Only bool `json:"only_show_online"`
	}
	return json.Unmarshal(content, &request) == nil && request.Only
}

// listCall is a ListClients call that waits for its answer.
type listCall struct {
	onlyOnline bool
	answers    chan listAnswer // has room for the one answer
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
	for {
		current, err := c.session(ctx)
		if err == nil {
			var list *ClientList
			if list, err = current.list(ctx, onlyOnline); err == nil {
				return list, nil
			}
			if errors.Is(err, errSessionEnded) {
				continue // asking again is harmless
			}
		}
		return nil, fmt.Errorf("crosscomm: ListClients: %w", err)
	}
}

var errSessionEnded = errors.New("the session has ended")

// list asks the server. An answer has no mark of the request that it is for.
// So only one request is under way at a time, and an answer to one that was
// given up, should it still come, is dropped, or at worst taken for the next
// one's: it is then as old as the time-out that went before. To wait for as
// many answers as there were requests would be exact, but a single answer lost
// would make all later calls fail.
func (sess *session) list(ctx context.Context, onlyOnline bool) (*ClientList, error) {
	select {
	case sess.listing <- struct{}{}:
		defer func() { <-sess.listing }()
	case <-sess.done:
		return nil, errSessionEnded
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	call := &listCall{onlyOnline: onlyOnline, answers: make(chan listAnswer, 1)}
	sess.setListCall(call)
	defer sess.setListCall(nil)
	content := frame.AppendString(nil, `{"only_show_online": `+strconv.FormatBool(onlyOnline)+`}`)
	_ = sess.link.Send(sess.client.s.newFrame(TypeListClients, ServerID, content)) // if it fails, done tells
	select {
	case answer := <-call.answers:
		return answer.list, answer.err
	case <-sess.done:
		var ce *CloseError
		if err := sess.reason(); errors.As(err, &ce) && ce.Code == websocket.CloseMessageTooBig {
			return nil, fmt.Errorf("%w: the answer, probably (%w)", ErrTooLarge, err)
		}
		return nil, errSessionEnded
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (sess *session) setListCall(call *listCall) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	sess.listCall = call
}

// listAnswered brings an answer to the call that waits for one. The original
// sends a string of JSON; an object is understood too.
func (sess *session) listAnswered(m *Message) {
	var list ClientList
	err := json.Unmarshal([]byte(m.Text()), &list)
	if err != nil {
		err = fmt.Errorf("the server's answer is malformed: %w", err)
	}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if call := sess.listCall; call != nil && (err != nil || list.OnlyShowOnline == call.onlyOnline) {
		call.answers <- listAnswer{&list, err}
		sess.listCall = nil
	}
}
