package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

type serverCommand struct {
	IP                string     `name:"ip" help:"Address to listen on." default:"0.0.0.0" placeholder:"ADDRESS"`
	Port              int        `help:"Port to listen on; 0 takes a free one." default:"9898" placeholder:"PORT"`
	HeartbeatInterval seconds    `help:"How often to look for clients that have gone silent." default:"30s" placeholder:"DURATION"`
	HeartbeatTimeout  seconds    `help:"Silence after which a client counts as offline." default:"60s" placeholder:"DURATION"`
	StateFile         string     `help:"File that keeps the clients' states, relative to --data-dir." default:"cross_comm_clients.yaml" placeholder:"FILE"`
	DataDir           string     `help:"Directory for the server's files; made if it is missing." default:"." placeholder:"DIR"`
	LogLevel          slog.Level `help:"What is logged to standard error: debug, info, warn or error." default:"info" placeholder:"LEVEL"`
	JSON              bool       `name:"json" help:"Print events to standard output, one JSON object a line."`
}

// Help is shown by kong.
func (serverCommand) Help() string {
	return `The server runs until Ctrl-C. Python, Java, Swift and Go programs connect to its address and port.

Example:
  crosscomm server --port 9898 --data-dir /var/lib/crosscomm

With --json it prints {"event": "listening", "addr": …}, {"event": "login", "client_id": …} and {"event": "logout", "client_id": …}.`
}

// Run is called by kong.
func (c serverCommand) Run(ctx context.Context, con console) error {
	if c.Port < 0 || c.Port > 65535 {
		return usageError{fmt.Sprintf("--port is %d; it must be between 0 and 65535", c.Port)}
	}
	c.IP = strings.Trim(c.IP, "[]")
	out := &printer{w: con.stdout}
	cfg := crosscomm.Config{
		Role:              crosscomm.Server,
		IP:                c.IP,
		HeartbeatInterval: time.Duration(c.HeartbeatInterval),
		HeartbeatTimeout:  time.Duration(c.HeartbeatTimeout),
		StateFile:         c.StateFile,
		DataDir:           c.DataDir,
		Logger:            newLogger(con.stderr, c.LogLevel),
	}
	if c.JSON {
		cfg.OnLogin = func(id string) { out.event("login", "client_id", id) }
		cfg.OnLogout = func(id string, _ error) { out.event("logout", "client_id", id) }
	}
	svc, err := crosscomm.New(cfg)
	if err != nil {
		return usageError{err.Error()}
	}
	// The library goes on without its files; who names a directory wants it.
	if err := os.MkdirAll(c.DataDir, 0o755); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(c.IP, strconv.Itoa(c.Port)))
	if err != nil {
		hint := ""
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = " (choose another port with --port; 0 takes a free one)"
		}
		return fmt.Errorf("cannot listen: %w%s", err, hint)
	}
	// The listener calls 0.0.0.0 by the name of [::], which it is too.
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		l.Close()
		return err
	}
	addr := net.JoinHostPort(c.IP, port)
	if c.JSON {
		out.event("listening", "addr", addr)
	} else {
		out.line("crosscomm server on %s; connect to it with, for instance:\n  crosscomm listen --server %s", addr, reachable(c.IP, port))
	}
	return svc.Serve(ctx, l)
}

// reachable returns an address under which other devices may reach a server
// that listens on all addresses.
func reachable(ip, port string) string {
	if !net.ParseIP(ip).IsUnspecified() {
		return net.JoinHostPort(ip, port)
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return net.JoinHostPort(ip.IP.String(), port)
		}
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// seconds is a duration that may be given as a number of seconds, as in
// Python, or with a unit.
type seconds time.Duration

// UnmarshalText is called by kong.
func (s *seconds) UnmarshalText(text []byte) error {
	given := string(text)
	if n, err := strconv.ParseFloat(given, 64); err == nil {
		given = fmt.Sprintf("%fs", n)
	}
	d, err := time.ParseDuration(given)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a duration such as 30, 1.5s or 2m", text)
	}
	*s = seconds(d)
	return nil
}
