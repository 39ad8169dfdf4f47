package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/crosscomm/crosscomm-go/internal/link"
)

// subprotocol is offered by our client and selected by our server. The
// originals do neither, so on a connection that agreed on it more than the
// original's wire may be spoken; so far nothing is.
const subprotocol = "crosscomm.v3"

const (
	// listenersPatience is how long the end of a server waits for listeners
	// that are running, whose context has ended.
	listenersPatience = 5 * time.Second
	// stopPatience is what a peer has, at the end of a server, to take what is
	// queued for it and to answer the close frame.
	stopPatience = time.Second
)

// server is the server role of a Service: it accepts connections and has them
// served, from begin until end.
type server struct {
	s        *Service
	hub      *hub
	stats    counters
	upgrader websocket.Upgrader

	mu      sync.Mutex
	run     *serverRun // nil while not serving
	stopped bool       // by Stop or the end of Serve; only Serve starts it again
}

// serverRun is what lasts from the start of a server until its stop.
type serverRun struct {
	ctx    context.Context // ends when the server stops
	cancel context.CancelFunc
	work   sync.WaitGroup // connections being served, and the keepers below
	links  map[*link.Link]struct{}
	keeper sync.WaitGroup // goroutines that outlast the connections
	keep   context.CancelFunc
	ended  chan struct{} // closed when nothing is left
}

func newServer(s *Service) *server {
	return &server{
		s:   s,
		hub: newHub(s),
		upgrader: websocket.Upgrader{
			HandshakeTimeout:  10 * time.Second,
			Subprotocols:      []string{subprotocol},
			EnableCompression: s.cfg.Compression,
			WriteBufferPool:   &sync.Pool{},
		},
	}
}

func (v *server) serving() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.run != nil && v.run.ctx.Err() == nil
}

func (v *server) isStopped() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stopped
}

// begin starts what a server needs besides its connections, if it is not there
// yet. It must be called with mu held.
func (v *server) begin() *serverRun {
	if v.run != nil {
		return v.run
	}
	run := &serverRun{links: map[*link.Link]struct{}{}, ended: make(chan struct{})}
	run.ctx, run.cancel = context.WithCancel(context.Background())
	var keepCtx context.Context
	keepCtx, run.keep = context.WithCancel(context.Background())

	if !v.s.cfg.NoStateFile {
		file := newStateFile(v.s.cfg.StateFile, v.s.log)
		v.hub.restore(file.load())
		run.keeper.Go(func() { file.keep(keepCtx, v.hub.changed, v.hub.states) })
	}
	run.keeper.Go(func() { v.hub.watchHeartbeats(keepCtx, v.s.cfg.HeartbeatInterval) })
	v.run = run
	return run
}

// serve is Service.Serve.
func (v *server) serve(ctx context.Context, l net.Listener) error {
	v.mu.Lock()
	if v.run != nil {
		v.mu.Unlock()
		l.Close()
		return errors.New("crosscomm: the server is already running")
	}
	v.stopped = false
	run := v.begin()
	v.mu.Unlock()

	log := v.s.log
	hs := &http.Server{
		Handler:           v.s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(l) }()
	log.Info("listening", "addr", l.Addr().String())

	var err error
	select {
	case <-ctx.Done():
	case <-run.ctx.Done(): // Stop
	case err = <-failed:
		err = fmt.Errorf("crosscomm: serving: %w", err)
	}
	hs.Close()
	_ = v.stop(context.WithoutCancel(ctx))
	if err == nil {
		<-failed
		log.Info("stopped", "addr", l.Addr().String())
	}
	return err
}

// stop ends the run, if there is one, and waits for the end of it or of ctx.
func (v *server) stop(ctx context.Context) error {
	v.mu.Lock()
	run := v.run
	if run == nil {
		v.mu.Unlock()
		return nil
	}
	v.stopped = true
	if run.ctx.Err() == nil {
		run.cancel()
		for l := range run.links {
			l.Close(websocket.CloseGoingAway, "server stopped", stopPatience)
		}
		go v.end(run)
	}
	v.mu.Unlock()
	select {
	case <-run.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("crosscomm: stopping: %w", context.Cause(ctx))
	}
}

// end waits for everything that belongs to the run. The keepers go last: the
// logouts of the connections are to be kept too.
func (v *server) end(run *serverRun) {
	run.work.Wait()
	run.keep()
	run.keeper.Wait()
	patience, cancel := context.WithTimeout(context.Background(), listenersPatience)
	defer cancel()
	if !v.s.listeners.idle(patience) || !v.s.events.idle(patience) {
		v.s.log.Error("a listener still runs although its context has ended; it is left behind")
	}
	v.mu.Lock()
	v.run = nil
	v.mu.Unlock()
	close(run.ended)
}

// enter registers a connection about to be served; leave must follow. It fails
// if the server is stopping.
func (v *server) enter() (*serverRun, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopped {
		return nil, ErrStopped
	}
	run := v.begin()
	run.work.Add(1)
	return run, nil
}

func (v *server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, fmt.Sprintf("This is a crosscomm server: it speaks WebSocket.\nConnect a client to it, for instance:  crosscomm listen --server %s\n", r.Host), http.StatusUpgradeRequired)
		return
	}
	run, err := v.enter()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer run.work.Done()
	conn, err := v.upgrader.Upgrade(w, r, nil) // answers by itself if it fails
	if err != nil {
		v.s.log.Info("a WebSocket handshake failed", "remote", r.RemoteAddr, "error", err)
		return
	}
	v.serveConn(run, conn)
}

// serveConn serves a connection until it ends.
func (v *server) serveConn(run *serverRun, conn *websocket.Conn) {
	l := link.New(conn, link.Options{MaxMessage: v.s.cfg.MaxMessageSize, MaxQueued: v.s.cfg.MaxQueuedBytes})
	v.mu.Lock()
	if run.ctx.Err() != nil { // stop has not seen this one
		l.Close(websocket.CloseGoingAway, "server stopped", stopPatience)
	}
	run.links[l] = struct{}{}
	v.mu.Unlock()

	p := &peer{server: v, ctx: run.ctx, link: l, log: v.s.log.With("remote", conn.RemoteAddr().String())}
	p.log.Debug("connected")
	err := l.Run(p.receive)
	p.gone(err)

	v.mu.Lock()
	delete(run.links, l)
	v.mu.Unlock()
}

// send is SendMessage of the server role.
func (v *server) send(content any, t MsgType, to string) error {
	data, err := v.s.compose(ServerID, content, t, to)
	if err != nil {
		return err
	}
	if v.isStopped() {
		return fmt.Errorf("crosscomm: SendMessage: %w: %w", ErrNotConnected, ErrStopped)
	}
	switch to {
	case ServerID:
		return nil // nobody hears himself
	case All:
		v.hub.broadcast(nil, data)
		return nil
	}
	if !v.hub.send(to, data) {
		return fmt.Errorf("crosscomm: SendMessage to %q: %w", to, ErrOffline)
	}
	return nil
}
