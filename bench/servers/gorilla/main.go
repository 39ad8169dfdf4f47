// Command gorilla is a cross_comm relay written with
// github.com/gorilla/websocket in the way of its chat example, for the
// comparison: a hub, and for each client two goroutines and a channel.
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/bench/internal/serve"
	"github.com/crosscomm/crosscomm-go/bench/internal/wire"
)

const (
	writeWait  = 10 * time.Second // for one message
	pongWait   = 60 * time.Second
	pingPeriod = pongWait * 9 / 10

	// queued is how many messages wait for a client at most; one that takes
	// them too slowly is disconnected.
	queued = 256
)

var upgrader = websocket.Upgrader{
	ReadBufferSize: 1024, WriteBufferSize: 1024,
	CheckOrigin: func(*http.Request) bool { return true },
}

func main() {
	l, deflate := serve.ListenSecure()
	upgrader.EnableCompression = deflate
	h := &hub{clients: map[string]*client{}, relay: make(chan message), unregister: make(chan *client)}
	go h.run()
	serve.HTTP(l, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			log.Print(err)
			return
		}
		c := &client{hub: h, conn: conn, send: make(chan []byte, queued)}
		go c.writePump()
		go c.readPump()
	})
}

// client is one connection.
type client struct {
	hub  *hub
	conn *websocket.Conn
	send chan []byte // what is to be written; the hub closes it

	// Only the hub uses these.
	id   string // that has logged in, or ""
	gone bool   // send is closed
}

// message is a frame on its way through the hub.
type message struct {
	from  *client
	frame wire.Frame
	data  []byte
}

// readPump reads what the client sends.
func (c *client) readPump() {
	defer func() {
		c.hub.unregister <- c
		c.conn.Close()
	}()
	c.conn.SetReadLimit(wire.MaxMessage)
	_ = c.conn.SetReadDeadline(time.Now().Add(pongWait))
	c.conn.SetPongHandler(func(string) error { return c.conn.SetReadDeadline(time.Now().Add(pongWait)) })
	for {
		_, data, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		if f, err := wire.Decode(data); err == nil {
			c.hub.relay <- message{c, f, data}
		}
	}
}

// writePump writes what the hub sends. The example joins what is queued into one
// message; here each is one.
func (c *client) writePump() {
	ticker := time.NewTicker(pingPeriod)
	defer func() {
		ticker.Stop()
		c.conn.Close()
	}()
	for {
		var err error
		select {
		case data, ok := <-c.send:
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if !ok {
				_ = c.conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			err = c.conn.WriteMessage(websocket.TextMessage, data)
		case <-ticker.C:
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeWait))
			err = c.conn.WriteMessage(websocket.PingMessage, nil)
		}
		if err != nil {
			return
		}
	}
}

// hub knows the clients that have logged in, and brings messages to them.
type hub struct {
	clients    map[string]*client // by their ids
	relay      chan message
	unregister chan *client
}

func (h *hub) run() {
	for {
		select {
		case c := <-h.unregister:
			h.drop(c)
		case m := <-h.relay:
			h.handle(m)
		}
	}
}

func (h *hub) handle(m message) {
	switch {
	case m.from.gone:
	case m.frame.Type == wire.Login && m.frame.From != "":
		h.logout(m.from) // from the id that it had before
		m.from.id = m.frame.From
		h.clients[m.from.id] = m.from
		h.send(m.from, wire.LoginResponse(m.from.id))
	case m.frame.Type == wire.Logout:
		h.logout(m.from)
	case !m.frame.Relayed():
	case m.frame.To == wire.All:
		for _, c := range h.clients {
			if c != m.from {
				h.send(c, m.data)
			}
		}
	default:
		if c := h.clients[m.frame.To]; c != nil {
			h.send(c, m.data)
		}
	}
}

func (h *hub) send(c *client, data []byte) {
	select {
	case c.send <- data:
	default:
		h.drop(c)
	}
}

// drop ends a client, once.
func (h *hub) drop(c *client) {
	h.logout(c)
	if !c.gone {
		c.gone = true
		close(c.send)
	}
}

// logout forgets the client's id, if a newer one has not taken it.
func (h *hub) logout(c *client) {
	if h.clients[c.id] == c {
		delete(h.clients, c.id)
	}
	c.id = ""
}
