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
// original's wire may be spoken: see typeObjectStore.
const subprotocol = "crosscomm.v3"

const (
	// listenersTimeout is how long the end of a server waits for listeners
	// that are running, whose context has ended.
	listenersTimeout = 5 * time.Second
	// stopTimeout is what a peer has, at the end of a server, to take what is
	// queued for it and to answer the close frame.
	stopTimeout = time.Second
	// maxHeaderBytes bounds the headers of a request. They hold a token, or a
	// signature, and what browsers add.
	maxHeaderBytes = 32 << 10
)

// server is the server role of a Service: it accepts connections and has them
// served, from begin until end.
type server struct {
	s        *Service
	hub      *hub
	stats    counters
	upgrader websocket.Upgrader
	visitors *connLimiter // WebSocket connections
	queues   link.Budget
	failures failures // logins

	own ownLetters

	keysMu sync.Mutex
	keys   *accessKeys // of the endpoint; nil until they are needed

	// starting is held until a run has begun, which may take a disk long, and has
	// what it was begun for. It is taken before mu.
	starting sync.Mutex

	mu      sync.Mutex
	run     *serverRun // nil while not serving
	stopped bool       // by Stop or the end of Serve; only Serve starts it again
	listens *listeners // of Serve; nil while that does not run
}

// serverRun is what lasts from the start of a server until its stop.
type serverRun struct {
	ctx    context.Context // ends when the server stops
	cancel context.CancelFunc
	work   sync.WaitGroup      // connections and requests being served
	links  map[*link.Link]bool // their links; guarded by server.mu
	ready  chan struct{}       // closed when the state file has been read
	ended  chan struct{}       // closed when nothing is left
	keeper sync.WaitGroup      // goroutines that outlast the connections
	keep   context.CancelFunc  // ends those

	transfers   activity    // uploads and downloads of the server itself
	endpoint    *endpoint   // for files; nil if there is none
	tokens      *tokens     // of which one is needed; nil if none is
	deliveries  *deliveries // the messages that are tracked
	warnNoStore sync.Once
}

func newServer(s *Service) *server {
	limits := s.cfg.Limits
	srv := &server{
		s:        s,
		hub:      newHub(s),
		stats:    newCounters(),
		visitors: newConnLimiter(s.cfg),
		failures: failures{perMinute: limits.FailedLoginsPerMinute},
		upgrader: websocket.Upgrader{
			HandshakeTimeout:  limits.HeaderTimeout,
			Subprotocols:      []string{subprotocol},
			EnableCompression: s.cfg.Compression,
			ReadBufferSize:    link.ReadBufferSize,
			WriteBufferPool:   &sync.Pool{},
		},
	}
	srv.upgrader.CheckOrigin = func(*http.Request) bool { return true } // handshake has seen to it
	srv.queues.Limit(limits.TotalQueuedBytes)
	return srv
}

func (srv *server) serving() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.run != nil && srv.run.ctx.Err() == nil
}

func (srv *server) isStopped() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.stopped
}

func (srv *server) addrs() (addr, tlsAddr net.Addr) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.listens == nil {
		return nil, nil
	}
	return srv.listens.addr, srv.listens.tlsAddr
}

// begin starts what a server needs besides its connections, if it is not there
// yet and the server was not stopped. It must be called with starting held.
func (srv *server) begin() (*serverRun, error) {
	srv.mu.Lock()
	run, stopped := srv.run, srv.stopped
	srv.mu.Unlock()
	switch {
	case run != nil:
		return run, nil
	case stopped:
		return nil, errStopped
	}
	run = &serverRun{links: map[*link.Link]bool{}, ready: make(chan struct{}), ended: make(chan struct{})}
	var err error
	if run.tokens, err = openTokens(srv.s.cfg.Token, srv.s.cfg.TokenFile, srv.s.log); err != nil {
		return nil, err
	}
	if run.endpoint, err = srv.openEndpoint(run); err != nil {
		hint := ""
		if errors.Is(err, ErrInUse) {
			hint = " (is another server running? stop it, or choose another directory)"
		}
		return nil, fmt.Errorf("crosscomm: the data directory %s cannot be used: %w%s", srv.s.cfg.DataDir, err, hint)
	}
	if run.deliveries, err = srv.openDeliveries(); err != nil {
		if run.endpoint != nil {
			err = errors.Join(err, run.endpoint.server.Close())
		}
		return nil, fmt.Errorf("crosscomm: the queues in the data directory %s cannot be used: %w", srv.s.cfg.DataDir, err)
	}
	run.deliveries.addWaiting()
	run.ctx, run.cancel = context.WithCancel(context.Background())
	var keepCtx context.Context
	keepCtx, run.keep = context.WithCancel(context.Background())

	if srv.s.cfg.NoStateFile {
		close(run.ready)
	} else {
		run.keeper.Go(func() {
			file := newStateFile(srv.s.cfg.StateFile, srv.s.log)
			srv.hub.restore(file.load())
			close(run.ready)
			file.keep(keepCtx, srv.hub)
		})
	}
	run.keeper.Go(func() { run.deliveries.run(keepCtx) })
	run.keeper.Go(func() { every(keepCtx, expireEvery, run.deliveries.expire) })
	run.keeper.Go(func() { every(keepCtx, srv.s.cfg.HeartbeatInterval, srv.hub.lookAtSilent) })
	if srv.s.cfg.TokenFile != "" {
		run.keeper.Go(func() { every(keepCtx, tokensFresh, func() { srv.refreshTokens(run) }) })
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.run = run
	return run, nil
}

// beginAt begins a run for serve, which must call work.Done.
func (srv *server) beginAt(on *listeners) (*serverRun, error) {
	srv.starting.Lock()
	defer srv.starting.Unlock()
	srv.mu.Lock()
	running, stopped := srv.run != nil, srv.stopped
	srv.stopped = stopped && running
	srv.mu.Unlock()
	if running {
		return nil, errors.New("crosscomm: the server is already running")
	}
	run, err := srv.begin()
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if err != nil {
		srv.stopped = stopped
		return nil, err
	}
	srv.listens = on
	run.work.Add(1) // until the port is free again
	return run, nil
}

// serve is Service.Serve.
func (srv *server) serve(ctx context.Context, l net.Listener) error {
	on, err := srv.s.listenTLS(ctx, l)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	run, err := srv.beginAt(on)
	if err != nil {
		on.close()
		return err
	}
	log := srv.s.log
	hs := &http.Server{
		Handler:           on.handler(srv.s),
		ReadHeaderTimeout: srv.s.cfg.Limits.HeaderTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// Net/http's own answer to OPTIONS * waits for the body for ever.
		DisableGeneralOptionsHandler: true,
	}
	var conns sync.WaitGroup
	hs.ConnState = srv.countConns(&conns)
	<-run.ready
	failed := make(chan error, len(on.all))
	for _, l := range on.all {
		go func() { failed <- hs.Serve(l) }()
	}
	log.Info("listening", on.addrs()...)
	left := len(on.all)

	select {
	case <-ctx.Done():
	case <-run.ctx.Done(): // Stop
	case err = <-failed:
		err = fmt.Errorf("crosscomm: serving: %w", err)
		left--
	}
	hs.Close()
	for range left {
		<-failed
	}
	run.work.Done()
	_ = srv.stopRun(context.WithoutCancel(ctx), run)
	conns.Wait() // net/http lingers for half a second on one that was cut
	log.Info("stopped", on.addrs()...)
	return err
}

// countConns returns what counts the network connections that are no WebSockets, or
// not yet, and cuts those that are too many. The group has one for each.
func (srv *server) countConns(conns *sync.WaitGroup) func(net.Conn, http.ConnState) {
	unupgraded := newConnLimiter(srv.s.cfg)
	return func(conn net.Conn, state http.ConnState) {
		addr := addrOf(conn.RemoteAddr())
		switch state {
		case http.StateNew:
			conns.Add(1)
			if why := unupgraded.enter(addr); why != "" {
				srv.turnedAway(addr, string(why))
				conn.Close()
			}
		case http.StateClosed, http.StateHijacked:
			unupgraded.leave(addr)
			conns.Done()
		}
	}
}

// stop is Service.Stop.
func (srv *server) stop(ctx context.Context) error {
	srv.starting.Lock()
	srv.mu.Lock()
	srv.stopped = true
	run := srv.run
	srv.mu.Unlock()
	srv.starting.Unlock()
	if run == nil {
		return nil
	}
	return srv.stopRun(ctx, run)
}

// stopRun ends the run, if nothing has yet, and waits for the end of it or of
// ctx.
func (srv *server) stopRun(ctx context.Context, run *serverRun) error {
	srv.mu.Lock()
	if run.ctx.Err() == nil {
		srv.stopped = true
		run.cancel()
		for l := range run.links {
			l.Close(websocket.CloseGoingAway, "server stopped", stopTimeout)
		}
		go srv.end(run)
	}
	srv.mu.Unlock()
	select {
	case <-run.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("crosscomm: stopping: %w", context.Cause(ctx))
	}
}

// end waits for everything that belongs to the run. The keepers go last: the
// logouts of the connections are to be kept too.
func (srv *server) end(run *serverRun) {
	run.work.Wait()
	srv.s.endTransfers(&run.transfers)
	run.keep()
	run.keeper.Wait()
	patience, cancel := context.WithTimeout(context.Background(), listenersTimeout)
	defer cancel()
	if !srv.s.listeners.idle(patience) || !srv.s.events.idle(patience) || !srv.hub.presence.idle(patience) {
		srv.s.log.Error("a listener or a function of the Config still runs, although its context has ended; it is left behind")
	}
	if err := run.deliveries.close(); err != nil {
		srv.s.log.Error("closing the queues in the data directory", "error", err)
	}
	if run.endpoint != nil {
		run.endpoint.store.close()
		if err := run.endpoint.server.Close(); err != nil {
			srv.s.log.Error("closing the data directory", "error", err)
		}
	}
	srv.mu.Lock()
	srv.run, srv.listens = nil, nil
	srv.mu.Unlock()
	close(run.ended)
}

// enter registers a connection or a request about to be served; work.Done of
// the run must follow. It fails if the server is stopping, or cannot start.
func (srv *server) enter() (*serverRun, error) {
	run, err := srv.beginWork()
	if err != nil {
		return nil, err
	}
	<-run.ready
	return run, nil
}

// beginWork registers something in the run, which it begins if there is none.
func (srv *server) beginWork() (*serverRun, error) {
	srv.starting.Lock()
	defer srv.starting.Unlock()
	run, err := srv.begin()
	if err != nil {
		if !errors.Is(err, errStopped) {
			srv.stats.warnings.warn(srv.s.log, "the server cannot start", "error", err)
		}
		return nil, err
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.stopped { // the run is just ending
		return nil, errStopped
	}
	run.work.Add(1)
	return run, nil
}

// servePeer serves a connection until it ends.
func (srv *server) servePeer(p *peer) {
	l, run := p.link, p.run
	srv.mu.Lock()
	if run.ctx.Err() != nil { // stop has not seen this one
		l.Close(websocket.CloseGoingAway, "server stopped", stopTimeout)
	}
	run.links[l] = true
	srv.mu.Unlock()

	p.debug("connected")
	p.awaitLogin(srv.s.cfg.Limits.LoginTimeout)
	err := l.Run(p.receive)
	p.hasLoggedIn()
	p.gone(err)

	srv.mu.Lock()
	delete(run.links, l)
	srv.mu.Unlock()
}

// tell queues a frame of the server's own, which nobody may change any more, for a
// peer, and reports whether it was queued.
func (srv *server) tell(p *peer, data []byte) bool {
	ok := srv.outcome(p, p.link.Send(data))
	if ok {
		srv.stats.delivered.Add(1)
	}
	return ok
}

// forward queues a frame that comes in at from, which will flush it, for a peer, and
// reports whether it was queued.
func (srv *server) forward(p *peer, f *link.Frame, from *peer) bool {
	return srv.outcome(p, from.link.Forward(p.link, f))
}

// outcome takes what became of a frame for a peer, and closes one that does not keep
// up: a bound on what is held for it is the only way in which nobody waits for it
// and no message is left out in silence.
func (srv *server) outcome(p *peer, err error) (queued bool) {
	if errors.Is(err, link.ErrFull) && p.link.Close(CloseTooSlow, "reading too slowly: the send queue is full", closeTimeout) {
		srv.stats.tooSlow.Add(1)
		p.logPresence(slog.LevelWarn, "a client reads too slowly and is disconnected", "queued_bytes_limit", srv.s.cfg.Limits.QueuedBytes, "in_all", srv.queues.Used())
	}
	return err == nil
}
