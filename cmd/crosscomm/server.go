package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// defaultDataDir is where a server keeps files if it is not told.
const defaultDataDir = "crosscomm-data"

type serverCommand struct {
	IP                string     `name:"ip" help:"Address to listen on." default:"0.0.0.0" placeholder:"ADDRESS"`
	Port              int        `help:"Port to listen on; 0 takes a free one." default:"9898" placeholder:"PORT"`
	Advertise         string     `help:"Address that other devices are told, if it is not this machine's own; --port is used if it has no port." placeholder:"HOST[:PORT]"`
	HeartbeatInterval seconds    `help:"How often to look for clients that have gone silent." default:"30s" placeholder:"DURATION"`
	HeartbeatTimeout  seconds    `help:"Silence after which a client counts as offline." default:"60s" placeholder:"DURATION"`
	StateFile         string     `help:"File that keeps the clients' states, relative to --data-dir if that is given." default:"cross_comm_clients.yaml" placeholder:"FILE"`
	DataDir           *string    `help:"Directory for the server's files; made if it is missing. Without it crosscomm-data has the images, files and folders, and the state file is in the working directory. If it is empty (--data-dir=) no files are carried." placeholder:"DIR"`
	Quota             size       `help:"How much all files together may take, such as 10GB; without it as much as the disk has." placeholder:"SIZE"`
	MaxFileSize       size       `help:"How large a file may be, such as 500MB; without it there is no bound." placeholder:"SIZE"`
	KeepFiles         days       `help:"How long files are kept, such as 7d; without it forever." placeholder:"DURATION"`
	StartTimeout      seconds    `help:"How long to wait for another server, which is just ending, to give up the port and the data directory; without it there is no waiting." placeholder:"DURATION"`
	NoQueues          bool       `help:"Keep no messages for clients that are away."`
	QueueAge          days       `help:"How long a message waits for a client that is away." default:"7d" placeholder:"DURATION"`
	QueueMessages     int        `help:"How many messages wait for one client; the oldest are dropped for newer ones." default:"100000" placeholder:"N"`
	QueueSize         size       `help:"The same in bytes." default:"64MiB" placeholder:"SIZE"`
	QueueSizeInAll    size       `help:"The same for all clients; then no more is taken." default:"4GiB" placeholder:"SIZE"`
	QueueBroadcasts   bool       `help:"Have messages to all wait, too, for all known clients that are away."`
	QueueUnread       bool       `help:"Keep messages for clients that are there, too, until these have read them, so that none is lost with a connection; it costs processor time and disk, most for fast messages to Python, Java and Swift."`
	QueueFor          []string   `help:"Id of a client for which messages wait although it may never have logged in. May be repeated." placeholder:"ID"`
	PrintOSSEnv       bool       `name:"print-oss-env" help:"Print the settings by which Python and Java peers use the files of a server with this --data-dir, and end."`
	LogLevel          slog.Level `help:"What is logged to standard error: debug, info, warn or error." default:"info" placeholder:"LEVEL"`
	JSON              bool       `name:"json" help:"Print events to standard output, one JSON object a line."`

	accessFlags
	serverTLSFlags
	limitFlags
}

// Help is shown by kong.
func (serverCommand) Help() string {
	return `The server runs until Ctrl-C. Python, Java, Swift and Go programs connect to its address and port. It carries images, files and folders itself: Go clients are given access by it, Python and Java peers need the settings that --print-oss-env prints, whether the server runs or not, in the environment or in .env.

Examples:
  crosscomm server --port 9898 --data-dir /var/lib/crosscomm --quota 50GB --keep-files 7d
  crosscomm server --print-oss-env > .env
  crosscomm server --tls-self-signed --tls-port 9899 --tls-redirect
  crosscomm server --tls-cert fullchain.pem --tls-key privkey.pem

With TLS everything at that port is encrypted, files included. --tls-self-signed prints a pin, by which clients know the server (listen --tls-pin). It keeps tls-cert.pem and tls-key.pem in --data-dir; if the former is deleted, there will be another one, for the addresses that the machine has then, with the same pin. With --tls-client-ca a client's id must be the common name or a DNS name of its certificate.

Python and Java peers connect without TLS, but Python follows --tls-redirect. It, and the OSS clients of both, check the certificate against their own authorities: a self-signed one Python takes with SSL_CERT_FILE and REQUESTS_CA_BUNDLE, in its environment or .env, set to a copy of tls-cert.pem, Java from its trust store.

With --json it prints {"event": "listening", "addr": …}, with "tls_addr" if there is TLS and "tls_pin" if its certificate is self-signed, {"event": "login", "client_id": …} and {"event": "logout", "client_id": …}.`
}

// dataDir is where the files are, "" if none are carried.
func (c serverCommand) dataDir() string {
	if c.DataDir == nil {
		return defaultDataDir
	}
	return *c.DataDir
}

// config returns the configuration that the flags describe.
func (c serverCommand) config(con console) (crosscomm.Config, error) {
	cfg := crosscomm.Config{
		Role:              crosscomm.Server,
		IP:                c.IP,
		HeartbeatInterval: time.Duration(c.HeartbeatInterval),
		HeartbeatTimeout:  time.Duration(c.HeartbeatTimeout),
		StateFile:         c.StateFile,
		DataDir:           c.dataDir(),
		Quota:             int64(c.Quota),
		MaxFileSize:       int64(c.MaxFileSize),
		KeepFiles:         time.Duration(c.KeepFiles),
		Logger:            newLogger(con.stderr, c.LogLevel),
	}
	wishes := c.QueueBroadcasts || c.QueueUnread || c.QueueFor != nil
	switch {
	case wishes && cfg.DataDir == "":
		return cfg, usageError{"--queue-broadcasts, --queue-unread and --queue-for need a --data-dir"}
	case wishes && c.NoQueues:
		return cfg, usageError{"--queue-broadcasts, --queue-unread and --queue-for are nothing with --no-queues"}
	case cfg.DataDir != "":
		cfg.Queues = crosscomm.Queues{
			Off: c.NoQueues, MaxAge: time.Duration(c.QueueAge), MaxMessages: c.QueueMessages, MaxBytes: int64(c.QueueSize), MaxTotalBytes: int64(c.QueueSizeInAll),
			Broadcasts: c.QueueBroadcasts, Unread: c.QueueUnread, Clients: c.QueueFor,
		}
	}
	if err := errors.Join(c.accessFlags.apply(&cfg), c.limitFlags.apply(&cfg)); err != nil {
		return cfg, err
	}
	if c.DataDir != nil {
		return cfg, nil
	}
	// The original's state file is in the working directory, and is found there.
	var err error
	cfg.StateFile, err = filepath.Abs(c.StateFile)
	return cfg, err
}

// Run is called by kong.
func (c serverCommand) Run(ctx context.Context, con console) error {
	if c.Port < 0 || c.Port > 65535 {
		return usageError{fmt.Sprintf("--port is %d; it must be between 0 and 65535", c.Port)}
	}
	c.IP = strings.Trim(c.IP, "[]")
	if _, err := c.address("1"); err != nil {
		return err
	}
	if err := c.checkTLS(); err != nil {
		return err
	}
	// What a server relays is no garbage, but each handshake leaves much of it: to
	// collect it sooner costs little, and saves a tenth of the memory of idle clients.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	out := &printer{w: con.stdout}
	cfg, err := c.config(con)
	if err != nil {
		return err
	}
	if c.JSON {
		cfg.OnLogin = func(id string) { out.event("login", "client_id", id) }
		cfg.OnLogout = func(id string, _ error) { out.event("logout", "client_id", id) }
	}
	leaf, err := c.useTLS(&cfg, con.stderr)
	if err != nil {
		return err
	}
	svc, err := crosscomm.New(cfg)
	if err != nil {
		return usageError{err.Error()}
	}
	if c.PrintOSSEnv {
		return c.printOSSEnv(ctx, svc, con)
	}
	until := time.Now().Add(time.Duration(c.StartTimeout))
	for told := false; ; told = true {
		err := c.serve(ctx, svc, out, leaf)
		if !isInUse(err) && !errors.Is(err, crosscomm.ErrInUse) || !time.Now().Before(until) {
			return err
		}
		if !told {
			cfg.Logger.Warn("waiting for another server to end", "error", err)
		}
		select {
		case <-time.After(startAgain):
		case <-ctx.Done():
			return nil
		}
	}
}

// isInUse reports whether another program has the port.
func isInUse(err error) bool {
	const windows = syscall.Errno(10048) // WSAEADDRINUSE, which package syscall has another number for
	return errors.Is(err, syscall.EADDRINUSE) || runtime.GOOS == "windows" && errors.Is(err, windows)
}

// startAgain is how often a server tries to get what another one still has.
const startAgain = 50 * time.Millisecond

// serve serves until ctx ends.
func (c serverCommand) serve(ctx context.Context, svc *crosscomm.Service, out *printer, leaf *x509.Certificate) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(c.IP, strconv.Itoa(c.Port)))
	if err != nil {
		hint := ""
		if isInUse(err) {
			hint = " (choose another port with --port; 0 takes a free one)"
		}
		return fmt.Errorf("cannot listen: %w%s", err, hint)
	}
	// The listener calls 0.0.0.0 by the name of [::], which it is too.
	_, port, err := net.SplitHostPort(l.Addr().String())
	if dir := c.dataDir(); err == nil && dir != "" {
		if err = os.MkdirAll(dir, 0o755); err != nil {
			err = fmt.Errorf("--data-dir: %w", err)
		}
	}
	if err != nil {
		l.Close()
		return err
	}
	return svc.Serve(ctx, &toldListener{Listener: l, tell: func() { c.tell(out, svc, port, leaf) }})
}

// tell says that the server runs, and how to reach it.
func (c serverCommand) tell(out *printer, svc *crosscomm.Service, port string, leaf *x509.Certificate) {
	addr := net.JoinHostPort(c.IP, port)
	if c.JSON {
		out.event("listening", append([]string{"addr", addr}, c.tellsTLS(svc, leaf)...)...)
		return
	}
	peers, err := c.address(port)
	if err != nil {
		peers = addr // it was checked
	}
	tlsPort := ""
	if c.TLSPort != nil {
		tlsPort = c.tlsPortOf(svc)
		addr += ", and with TLS on " + net.JoinHostPort(c.IP, tlsPort)
	}
	out.line("crosscomm server on %s; connect to it with, for instance:\n  %s", addr, c.commands(svc, leaf, peers))
	switch local := net.ParseIP(c.IP); {
	case c.Token != "" || c.Tokens != "":
		out.line("Clients need a token, in CROSSCOMM_TOKEN or by --token.")
	case local.IsLoopback() || c.TLSClientCA != "":
	default:
		out.line("It lets in everybody who reaches it; with --token it asks for one.")
	}
	if dir, err := filepath.Abs(c.dataDir()); c.dataDir() != "" && err == nil {
		out.line("It keeps the files that it carries in %s. Settings for Python and Java peers:\n  %s", printable(dir), printable(c.envCommand(port, tlsPort, dir)))
	}
	if c.dataDir() == "" || c.NoQueues {
		out.line("It keeps no messages for clients that are away.")
	} else {
		out.line("Messages for clients that are away wait there, too.")
	}
}

// toldListener tells when the server has begun to serve: not before its
// directory is found to be usable.
type toldListener struct {
	net.Listener
	tell func()
	once sync.Once
}

// Accept implements net.Listener.
func (l *toldListener) Accept() (net.Conn, error) {
	l.once.Do(l.tell)
	return l.Listener.Accept()
}
