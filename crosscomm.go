// Package crosscomm lets programs on several devices and in several languages
// exchange text, JSON, dicts, bytes, images, files and folders through one
// WebSocket server. It speaks the wire of pywayne.cross_comm: its Python, Java
// and Swift programs work with this package's server and with its client,
// unmodified.
//
// One type, [Service], is both roles. A server:
//
//	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, Port: 9898})
//	…
//	err = svc.StartServer(ctx) // until ctx ends
//
// or, in an HTTP service that is there already, mux.Handle("/ws", svc). A
// client:
//
//	svc, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Client, IP: "192.168.1.10", ClientID: "robot-7"})
//	…
//	svc.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
//		fmt.Println(m.FromClientID, m.Text())
//		return nil
//	}, crosscomm.ListenerOptions{Type: crosscomm.TypeText})
//	err = svc.Login(ctx)
//	err = svc.SendMessage(ctx, "hello", crosscomm.TypeText, crosscomm.All)
//	err = svc.Logout(ctx)
//
// A client that loses its link reconnects by itself.
//
// Images, files and folders are sent by their path, and are on the receiver's
// disk when a listener with a [ListenerOptions.DownloadDirectory] is called:
//
//	err = svc.SendMessage(ctx, "photo.jpg", crosscomm.TypeImage, "robot-7")
//
// Their bytes go through an [ObjectStore]: the server's own if it has a
// [Config.DataDir], or Aliyun OSS if OSS_* variables say so.
//
// # Guarantees
//
// Messages from one sender to one receiver arrive in the order in which they
// were sent. A SendMessage of a client that returns nil has written the message to the
// link, and it comes once at most; with a [Stage] it waits until our server, or the
// receiver, has the message, sends it again when the link was lost, and it comes
// once at least: see [Service.Deliver]. What is sent to a known client that is away waits
// for it, if the server has a [Config.DataDir]: see [Queues]. All methods of a
// Service may be called concurrently, also by listeners.
package crosscomm

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
)

// Service is a server or a client: see [Config.Role]. Make one with [New]. All
// methods may be called concurrently, also from listeners and from the
// functions of the Config.
type Service struct {
	cfg       Config
	log       *slog.Logger
	listeners registry
	events    serialQueue // runs the Config's functions
	replies   replies     // that this program waits for
	inquiries inquiries   // that its listeners work on

	transfers *transfers // bounds downloads

	ossMu sync.Mutex
	oss   *ossStore // of Config.OSS; nil until it is needed

	client *client // nil for a server
	server *server // nil for a client
}

// New makes a Service. It opens no connection and no file but [Config.EnvFile].
// The error says which field of the configuration is wrong.
func New(cfg Config) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, log: slog.New(calmHandler{cfg.Logger.Handler()}), transfers: newTransfers(cfg.MaxDownloads)}
	s.listeners.log = s.log
	switch cfg.Role {
	case Client:
		s.client = newClient(s)
	case Server:
		s.server = newServer(s)
	}
	return s, nil
}

// Config returns the configuration with all defaults filled in.
func (s *Service) Config() Config { return s.cfg }

// ClientID returns this client's id: [Config.ClientID], or the one made for it.
func (s *Service) ClientID() string { return s.cfg.ClientID }

// MessageListener registers a listener for incoming messages and returns a
// function that removes it. Listeners may be added and removed at any time, and
// stay over reconnects and logouts.
//
// A client's listeners get what others send to its id or to "all", a server's
// what clients send to "server" or to "all". A Service never hears itself.
//
// A listener is called for one message at a time, in the order of arrival, off
// the connection's goroutines: it may block, take minutes, and call any method
// of the Service. Other listeners do not wait for it. When 16 MiB of messages
// of one sender, or 256 MiB of all, wait for one listener, the connection that
// brings more of them is not read further until the listener goes on; if that
// takes long, that link times out. On a client all senders share the one
// connection. [ListenerOptions.Overflow] has messages dropped instead, so that
// nothing ever waits for this listener.
//
// The context ends at Logout, or when the server stops, and that of a request when
// nobody waits for its reply any more; see [Service.Request]. What still waits at a
// Logout is dropped, but for what the server keeps (see [Queues]), which comes again
// after the next Login. An error or a panic of a listener is logged, and told to a
// sender that waits for [Handled]; it changes nothing else. After the listener was
// removed no call begins any more; one that runs is not waited for.
func (s *Service) MessageListener(l Listener, opts ListenerOptions) (remove func()) {
	return s.listeners.add(l, opts)
}

// Login connects a client, logs it in, and returns when the server has
// answered; from then on the client keeps itself connected until
// [Service.Logout]. The context bounds Login alone. If the client is logged in,
// or busy reconnecting, nil is returned; if another Login is under way, this
// one waits for its outcome.
//
// Any failure is returned at once: [ErrLoginRejected] if the server does not
// want this client, else the error of the network. A server that does not
// answer within 10 s has failed. With [Config.RetryLogin] only a rejection, a
// Logout or the end of ctx ends it. On a server it returns [ErrRole].
func (s *Service) Login(ctx context.Context) error {
	if s.client == nil {
		return wrongRole("Login", Client)
	}
	return s.client.login(ctx)
}

// Logout writes what was sent before, logs the client out and closes its link.
// That takes at most 2 s; if ctx ends sooner, the link is cut at once. Senders
// that wait for the link, uploads and downloads, and a Login under way get
// [ErrNotConnected]; one that does not end within a further second, since a
// store or a function of the application's blocks, is left behind, and logged.
// For a client that is not logged in it does nothing. On a server it returns
// [ErrRole]; there is no other error.
func (s *Service) Logout(ctx context.Context) error {
	if s.client == nil {
		return wrongRole("Logout", Client)
	}
	s.client.logout(ctx)
	return nil
}

// IsConnected reports whether a client's link is up, or a server is serving.
func (s *Service) IsConnected() bool {
	if s.client != nil {
		return s.client.connected()
	}
	return s.server.serving()
}

// SendMessage sends content to one client, to [All], or to [ServerID].
//
// What content may be depends on the type, as in the original:
//
//   - [TypeText]: a string or []byte of UTF-8; anything else but nil as
//     fmt.Sprint writes it
//   - [TypeJSON]: a string, []byte or json.RawMessage that is a JSON document;
//     anything else is marshaled to one
//   - [TypeDict]: anything that can be marshaled to JSON; json.RawMessage is
//     taken as it is, and []byte becomes base64, as encoding/json does it
//   - [TypeBytes]: []byte; a string is taken for base64 and sent unchecked, as
//     it is; nil is sent as null
//   - [TypeFile], [TypeImage], [TypeFolder]: the path of a file or a directory,
//     a string. Its bytes are stored first (see [Config.OSS]), under a key as the
//     original makes it, and then the message goes, with the path and the key.
//     Of a folder all files and directories are stored; symbolic links in it are
//     not followed, and like pipes and devices left out, which is logged. If
//     anything cannot be read or stored, nothing is sent.
//
// Floats in it may be NaN or infinite, which Python and Go read, and Java does
// not.
//
// A client's SendMessage returns nil when the message is written to the link.
// While the link is down it waits until it is up again or ctx ends; then, and
// at once for a client that is not logged in, the error is [ErrNotConnected].
// If ctx ends while the link is busy the error is the context's, and says
// whether the message was not sent or may still arrive.
//
// With a [Stage] it waits until the message has come so far: see [Service.Deliver]. Of
// several the farthest counts. With [All] it returns nil also if receivers have failed:
// only Deliver tells how many.
//
// A server's SendMessage queues the message and does not wait, but for a file
// until that is stored. For a client that is not there, or reads too slowly, it
// returns [ErrOffline]; or, if the server keeps [Queues], nil if the client is known,
// for which the message waits then, and else [ErrUnknownClient]. With [All] the
// message goes to whoever is there, and waits for others with [Queues.Broadcasts]. A
// server that was stopped returns [ErrNotConnected].
//
// The other errors are [ErrContent], [ErrTooLarge], [ErrReceiver],
// [ErrNoObjectStore], and a *[TransferError] for a file that could not be read
// or stored, or whose way was cut by ctx, Logout or Stop.
//
// An upload of more than 16 MiB, or of a folder, that was cut goes on where it
// stopped when the same path is sent again to the same store within a week, by
// the same client id, also by the next run of the program. That is remembered in
// the user's cache directory (os.UserCacheDir); where there is none it begins
// anew. What was stored of a file that is not sent is deleted, unless it is
// remembered so.
func (s *Service) SendMessage(ctx context.Context, content any, t MsgType, toClientID string, wait ...Stage) error {
	want := Sent
	if len(wait) > 0 {
		want = slices.Max(wait)
	}
	if _, err := s.send(ctx, content, t, toClientID, want); err != nil {
		return fmt.Errorf("crosscomm: SendMessage: %w", err)
	}
	return nil
}

// Deliver is [Service.SendMessage] that waits until the message has come to a stage,
// and tells how far it has come; for the conditions of each see [Stage]. The error is nil
// when that is reached, and else what SendMessage returns before the message was sent, or
// then a *[DeliveryError]; on a server that does not run it is [ErrNotConnected]. A
// message to [All] counts as having come to the stage when each client that was there
// has, or has failed: the Receipt has how many.
//
// While it waits the message is sent again, if the link is lost and is up again, in
// its place among others that wait, so that it is delivered at least once. Our servers
// and clients know what they already had: they handle none twice within ten minutes
// and 4,096 such messages. A client that speaks only the original's wire may get it twice
// after a server or its own link has ended at the wrong moment.
//
// Without a deadline of ctx it waits as long as it takes: for a receiver that is away
// and for which messages are kept (see [Queues]) that may be days. If ctx ends, the
// message may still arrive. Up to 1,000 calls of a client at a time, with 16 MiB, are
// under way; the others wait their turn.
func (s *Service) Deliver(ctx context.Context, content any, t MsgType, toClientID string, wait Stage) (Receipt, error) {
	r, err := s.send(ctx, content, t, toClientID, wait)
	if err != nil {
		err = fmt.Errorf("crosscomm: Deliver: %w", err)
	}
	return r, err
}

// ListClients asks the server for its clients: those online, or all it ever
// knew. It waits for the link if that is down, and for the answer; if ctx has
// no deadline, 5 s in all. The errors are [ErrNotConnected], the context's,
// [ErrTooLarge] for an answer that the client does not take, and one for an
// answer that cannot be read; on a server [ErrRole]: see [Service.Clients].
func (s *Service) ListClients(ctx context.Context, onlyOnline bool) (*ClientList, error) {
	if s.client == nil {
		return nil, wrongRole("ListClients", Client)
	}
	return s.client.list(ctx, onlyOnline)
}

// StartServer listens on IP and Port, and on TLSPort if that is set, and serves
// until ctx ends or [Service.Stop] is called. Then it closes the connections with
// code 1001 (going away), waiting for no peer longer than a second, cuts the
// server's own uploads and downloads, keeps the clients' states and what waits in
// [Queues], waits for running listeners, whose context has ended, up to 5 s, and
// returns nil. No goroutine of it is left then. Do not call it from a listener or a
// function of the Config.
//
// If it cannot listen or read [Config.TokenFile], or the server runs already, it
// returns an error; if another one has the [Config.DataDir], [ErrInUse]. On a client
// it returns [ErrRole].
func (s *Service) StartServer(ctx context.Context) error {
	if s.server == nil {
		return wrongRole("StartServer", Server)
	}
	l, err := s.listen(ctx, s.cfg.Port)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return s.Serve(ctx, l)
}

// Serve is [Service.StartServer] on a listener of the caller's, in place of one on
// IP and Port. It closes the listener. [Config.TLS] and TLSPort count as there; one
// of [crypto/tls.NewListener] speaks TLS by itself, and needs neither.
func (s *Service) Serve(ctx context.Context, l net.Listener) error {
	if s.server == nil {
		l.Close()
		return wrongRole("Serve", Server)
	}
	return s.server.serve(ctx, l)
}

// Addr returns the address that StartServer or Serve listens on, which tells
// the port if that was [AnyPort]. It is nil if neither runs.
func (s *Service) Addr() net.Addr {
	if s.server == nil {
		return nil
	}
	addr, _ := s.server.addrs()
	return addr
}

// TLSAddr returns the address at which StartServer or Serve speaks TLS by
// [Config.TLS]: that of TLSPort, or else that of Addr. It is nil if it does not, or
// neither runs.
func (s *Service) TLSAddr() net.Addr {
	if s.server == nil {
		return nil
	}
	_, addr := s.server.addrs()
	return addr
}

// ServeHTTP makes a server part of any HTTP service: it takes the WebSocket
// connections that come to it, at any path, within [Config.Limits]. With a
// [Config.DataDir] it takes the requests of OSS clients, too: those whose paths
// begin with "/crosscomm/", the bucket's name (mount it also there), and all that
// have the signature of one. Any other request is answered with 426 (upgrade
// required) and a hint, or, below "/_crosscomm/", with 404. It needs no
// StartServer, but [Service.Stop] when the program ends: an http.Server does not
// close WebSockets. Of clients' certificates that the http.Server verifies counts
// what [Config.TLS] says. A server that was stopped, or cannot start, since its
// DataDir or TokenFile cannot be used, answers 503. What has not come to a handshake
// yet is the http.Server's: give that a ReadHeaderTimeout.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.server == nil {
		http.Error(w, "this crosscomm.Service is a client", http.StatusInternalServerError)
		return
	}
	s.server.serveHTTP(w, r)
}

// Stop ends what StartServer or ServeHTTP began, as the end of StartServer's
// context does, and returns nil when that is done, or the context's error. A
// server that was stopped can be started again with StartServer. Do not call it
// from a listener or a function of the Config, which it would wait for. For a
// client it is [Service.Logout].
func (s *Service) Stop(ctx context.Context) error {
	if s.client != nil {
		return s.Logout(ctx)
	}
	return s.server.stop(ctx)
}

// GetOnlineClients returns the ids of the clients that are logged in and have
// not timed out, sorted. For a client it returns nil.
func (s *Service) GetOnlineClients() []string {
	if s.server == nil {
		return nil
	}
	return s.server.hub.online()
}

// Clients returns all clients that a server knows, sorted by id, also those of
// earlier runs, once it has read the state file: that is when StartServer
// begins or the first client of a mounted server connects. For a client it
// returns nil.
func (s *Service) Clients() []ClientInfo {
	if s.server == nil {
		return nil
	}
	return s.server.hub.list(false)
}

// Stats returns the counters of a server; those of a client are zero.
func (s *Service) Stats() Stats {
	if s.server == nil {
		return Stats{}
	}
	stats := s.server.stats.snapshot()
	stats.Connections, stats.Queued = s.server.visitors.size(), s.server.queues.Used()
	if run := s.server.running(); run != nil && run.deliveries.store != nil {
		stats.Waiting = int(run.deliveries.store.Totals().Messages)
	}
	return stats
}

func wrongRole(method string, want Role) error {
	return fmt.Errorf("crosscomm: %s: %w: only a %s can do that", method, ErrRole, want)
}

// event runs a function of the Config after those before it, off the caller's
// goroutine.
func (s *Service) event(f func()) {
	s.events.add("", task{job: jobFunc(func() {
		defer logPanic(s.log, "a function of the Config panicked", nil)
		f()
	})})
}
