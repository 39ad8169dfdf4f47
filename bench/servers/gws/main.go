// Command gws is a cross_comm relay written with github.com/lxzan/gws by its
// documentation, for the comparison. With --fast-scan it does not read frames
// with encoding/json, to tell the cost of that from the library's.
package main

import (
	"flag"
	"net/http"
	"strings"
	"time"

	"github.com/lxzan/gws"

	"github.com/crosscomm/crosscomm-go/bench/internal/serve"
	"github.com/crosscomm/crosscomm-go/bench/internal/wire"
)

const (
	// idKey is where a connection keeps the id that has logged in.
	idKey = "id"

	pingInterval = 25 * time.Second
	// deadline is how long a client may be silent, pongs included, or not take
	// what is written to it.
	deadline = 60 * time.Second
)

// relay handles the events of all connections.
type relay struct {
	gws.BuiltinEventHandler
	read    func(data []byte) (wire.Frame, error)
	clients *gws.ConcurrentMap[string, *gws.Conn] // those that have logged in, by their ids
}

func main() {
	fast := flag.Bool("fast-scan", false, "read frames with a scan written for them, not with encoding/json")
	l := serve.Listen()
	r := &relay{read: wire.Decode, clients: gws.NewConcurrentMap[string, *gws.Conn](16, 128)}
	if *fast {
		r.read = scan
	}
	// Messages of a connection are handled one after another: with
	// ParallelEnabled they would overtake each other.
	upgrader := gws.NewUpgrader(r, &gws.ServerOption{
		Recovery: gws.Recovery, ReadMaxPayloadSize: wire.MaxMessage, WriteMaxPayloadSize: wire.MaxMessage,
	})
	go r.ping()
	serve.HTTP(l, func(w http.ResponseWriter, req *http.Request) {
		conn, err := upgrader.Upgrade(w, req)
		if err != nil {
			return
		}
		go conn.ReadLoop() // not here, where the request would not be collected
	})
}

func scan(data []byte) (wire.Frame, error) {
	if f, ok := wire.Scan(data); ok {
		return f, nil
	}
	return wire.Decode(data)
}

// OnOpen is called by gws.
func (r *relay) OnOpen(conn *gws.Conn) { _ = conn.SetDeadline(time.Now().Add(deadline)) }

// OnPong is called by gws.
func (r *relay) OnPong(conn *gws.Conn, _ []byte) { _ = conn.SetDeadline(time.Now().Add(deadline)) }

// OnPing is called by gws.
func (r *relay) OnPing(conn *gws.Conn, payload []byte) {
	_ = conn.SetDeadline(time.Now().Add(deadline))
	_ = conn.WritePong(payload)
}

// OnClose is called by gws.
func (r *relay) OnClose(conn *gws.Conn, _ error) { r.logout(conn) }

// OnMessage is called by gws.
func (r *relay) OnMessage(conn *gws.Conn, message *gws.Message) {
	defer message.Close()
	data := message.Bytes()
	f, err := r.read(data)
	if err != nil {
		return
	}
	// What the methods of gws return is handled inside of it.
	switch {
	case f.Type == wire.Login && f.From != "":
		id := strings.Clone(f.From) // the data is used again
		r.logout(conn)              // from the id that it had before
		conn.Session().Store(idKey, id)
		r.clients.Store(id, conn)
		_ = conn.WriteMessage(gws.OpcodeText, wire.LoginResponse(id))
	case f.Type == wire.Logout:
		r.logout(conn)
	case !f.Relayed():
	case f.To == wire.All:
		// The frames are written by goroutines of gws, after this has returned.
		b := gws.NewBroadcaster(gws.OpcodeText, data)
		r.clients.Range(func(_ string, to *gws.Conn) bool {
			if to != conn {
				_ = b.Broadcast(to)
			}
			return true
		})
		_ = b.Close()
	default:
		if to, ok := r.clients.Load(f.To); ok {
			_ = to.WriteMessage(gws.OpcodeText, data)
		}
	}
}

// logout forgets the id of the connection, if a newer one has not taken it.
func (r *relay) logout(conn *gws.Conn) {
	value, ok := conn.Session().Load(idKey)
	if !ok {
		return
	}
	conn.Session().Delete(idKey)
	id := value.(string)
	shard := r.clients.GetSharding(id)
	shard.Lock()
	defer shard.Unlock()
	if now, _ := shard.Load(id); now == conn {
		shard.Delete(id)
	}
}

// ping pings all clients from time to time, so that those that are only silent
// answer, and those that are gone are closed.
func (r *relay) ping() {
	for range time.Tick(pingInterval) {
		r.clients.Range(func(_ string, conn *gws.Conn) bool {
			conn.WriteAsync(gws.OpcodePing, nil, nil) // no client may hold up the others
			return true
		})
	}
}
