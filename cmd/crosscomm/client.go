package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// clientFlags are the flags of all commands that are clients.
type clientFlags struct {
	Server   string          `help:"The server, as HOST:PORT, HOST, or a ws:// or wss:// address; with a --tls flag wss is meant." default:"127.0.0.1:9898" placeholder:"HOST:PORT"`
	ID       string          `name:"id" help:"This client's id; one is made for this machine if it is not given." placeholder:"ID"`
	Token    crosscomm.Token `help:"What this client shows the server, if that asks for it; better in CROSSCOMM_TOKEN in the environment." env:"CROSSCOMM_TOKEN" placeholder:"TOKEN"`
	LogLevel slog.Level      `help:"What is logged to standard error: debug, info, warn or error." default:"error" placeholder:"LEVEL"`

	clientTLSFlags
}

// config returns the configuration of the client that the flags describe, and
// what is to be called when the client has ended.
func (f clientFlags) config(stderr io.Writer) (cfg crosscomm.Config, done func(), err error) {
	cfg = crosscomm.Config{Role: crosscomm.Client, ClientID: f.ID, Token: f.Token, Logger: newLogger(stderr, f.LogLevel)}
	done = func() {}
	scheme, name := "ws://", ""
	if cfg.TLS, name, err = f.clientTLSFlags.config(f.Server, cfg.Logger); err != nil {
		return cfg, done, err
	}
	if cfg.TLS != nil {
		scheme = "wss://"
	}
	switch host, port, err := net.SplitHostPort(f.Server); {
	case strings.Contains(f.Server, "://"):
		cfg.URL = f.Server
	case err == nil && port != "":
		if host == "" {
			host = "127.0.0.1"
		}
		cfg.URL = scheme + net.JoinHostPort(host, port) + "/"
	case f.Server == "" || err == nil:
		return cfg, done, usageError{fmt.Sprintf("--server is %q; it must be HOST:PORT", f.Server)}
	default:
		cfg.IP = f.Server
	}
	switch {
	case f.ID == "" && name != "":
		cfg.ClientID = name
	case f.ID == "":
		cfg.ClientID, done = borrowID()
	}
	return cfg, done, nil
}

// What --timeout is if it is not given.
const (
	messageTimeout = 10 * time.Second // to log in, and to send a message
	stallTimeout   = time.Minute      // that a file makes no progress: links come back
)

// login makes a client of the configuration and logs it in within the timeout.
func login(ctx context.Context, cfg crosscomm.Config, timeout time.Duration) (*crosscomm.Service, error) {
	svc, err := crosscomm.New(cfg)
	if err != nil {
		return nil, usageError{err.Error()}
	}
	return svc, loginTo(ctx, svc, timeout)
}

func loginTo(ctx context.Context, svc *crosscomm.Service, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return svc.Login(ctx)
}

// logout is for a context that may have ended: that is when it is needed.
func logout(svc *crosscomm.Service) { _ = svc.Logout(context.Background()) }

// forGood reports whether a client that has lost its link with err stays down.
func forGood(err error) bool {
	return errors.Is(err, crosscomm.ErrReplaced) || errors.Is(err, crosscomm.ErrLoginRejected)
}

func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
