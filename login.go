package crosscomm

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gorilla/websocket"
)

// maxLogin bounds the bytes of a message on a connection on which nobody has logged
// in yet: of what is not whole it holds no more.
const maxLogin = 16 << 10

// awaitLogin closes the connection if nobody logs in within that time: whoever
// connects and says nothing must not hold it for ever.
func (p *peer) awaitLogin(patience time.Duration) {
	p.mustLogIn = time.AfterFunc(patience, func() {
		p.link.Close(CloseLoginTimeout, fmt.Sprintf("no login within %v", patience), closeTimeout)
	})
}

// hasLoggedIn ends the time in which somebody must.
func (p *peer) hasLoggedIn() {
	if p.mustLogIn != nil {
		p.mustLogIn.Stop()
		p.mustLogIn = nil
	}
}

// login makes this connection the one of the client. It does that on another
// stack: what that of a goroutine has once grown to, it keeps for long, and most
// connections need little of it ever after.
func (p *peer) login(id string, content []byte) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.survive()
		p.logIn(id, content)
	}()
	<-done
}

func (p *peer) logIn(id string, content []byte) {
	if !p.mayLogIn(id) {
		return
	}
	success := []byte(`{"status": "success"}`)
	if p.agreed {
		success = fmt.Appendf(nil, `{"status": "success", "max_message_size": %d}`, p.server.s.cfg.MaxMessageSize)
	}
	if p.takes == 0 { // later others look at it
		p.takes = DefaultMaxMessageSize
		if p.agreed {
			p.takes = maxMessageSizeIn(content)
		}
	}
	var welcome [][]byte
	var offer objectStoreOffer
	if p.agreed { // before the answer: Login must not return without it
		offer = p.server.offer(p.run, id)
		welcome = append(welcome, p.server.offerFrame(id, offer))
	}
	welcome = append(welcome, p.server.s.newFrame(TypeLoginResponse, id, success))
	again := p.id != ""
	old, ok := p.server.hub.login(p, id, welcome)
	if !ok {
		return
	}
	p.id = id
	p.hasLoggedIn()
	p.link.LimitMessages(p.server.s.cfg.MaxMessageSize)
	if !p.mayStay(id) { // the token was taken away just now
		p.reject(errors.New("the token does not count any more"))
		return
	}
	if !again {
		p.logPresence(slog.LevelInfo, "login", "client_id", id)
	}
	if now := p.server.offer(p.run, id); p.agreed && now != offer {
		p.server.tell(p, p.server.offerFrame(id, now)) // the key was revoked just now
	}
	if old != nil {
		p.logPresence(slog.LevelWarn, "a newer login takes over", "client_id", id)
		// What the older connection is just handling comes before all that
		// this one brings. It takes no time: a closing connection waits for
		// nobody, and takes over from nobody.
		p.link.Flush()
		old.awaitHandled()
	}
	p.awaitEvents()
}

// mayLogIn reports whether the client may have the id here, and closes the connection
// if not.
func (p *peer) mayLogIn(id string) bool {
	err := checkID(id)
	if limit := p.server.s.cfg.Limits.IDLength; err == nil && len(id) > limit {
		err = fmt.Errorf("the client id has %d bytes; at most %d are allowed", len(id), limit)
	}
	// One that repeats its login was asked already. And others may wait for it then,
	// so that it must not wait for a function of the Config.
	if err == nil && p.id == "" && p.credentials != nil {
		addr := addrOf(p.remote)
		if p.server.failures.tooMany(addr, time.Now()) { // on other connections, meanwhile
			p.link.Close(websocket.CloseTryAgainLater, tooManyFailures, closeTimeout)
			return false
		}
		if err = p.admit(id); err != nil {
			p.server.loginFailed(addr)
		}
	}
	if err != nil {
		p.reject(err)
	}
	return err == nil
}

// reject counts and logs a login that is not allowed, and ends the connection.
func (p *peer) reject(err error) {
	p.refuse(err)
	p.link.Close(CloseLoginRejected, err.Error(), closeTimeout)
}

// awaitHandled waits until the message that is being handled has been.
func (p *peer) awaitHandled() {
	p.handling.Lock()
	defer p.handling.Unlock()
}

// awaitEvents holds up this connection, and no lock, while too many calls of
// OnLogin and OnLogout wait.
func (p *peer) awaitEvents() {
	p.link.Flush()
	if events := &p.server.s.events; !events.hasRoom("") {
		_ = events.waitForRoom(p.run.ctx, p.link.Closing(), "")
	}
}

func (p *peer) logout() {
	p.server.hub.logout(p, nil)
	p.id = ""
	p.awaitLogin(p.server.s.cfg.HeartbeatTimeout)
	p.awaitEvents()
}

// sizeNote is what our ends tell each other at the login, where they have agreed on
// more than the original's wire: how many bytes they take in a message.
type sizeNote struct {
	MaxMessageSize int `json:"max_message_size"`
}

// maxMessageSizeIn reads the note of the other end, which may be malformed, or
// missing.
func maxMessageSizeIn(content []byte) int {
	var note sizeNote
	if err := json.Unmarshal(content, &note); err != nil || note.MaxMessageSize < minMessageSize {
		return DefaultMaxMessageSize
	}
	return note.MaxMessageSize
}
