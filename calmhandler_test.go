package crosscomm_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/internal/testkit"
)

// rudeHandler panics at each line, or asks the server for its clients.
type rudeHandler struct {
	lines  *atomic.Int64
	server *atomic.Pointer[testServer]
}

// Enabled implements slog.Handler.
func (rudeHandler) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (h rudeHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h rudeHandler) WithGroup(string) slog.Handler { panic("no groups") }

// Handle implements slog.Handler.
func (h rudeHandler) Handle(context.Context, slog.Record) error {
	h.lines.Add(1)
	if server := h.server.Load(); server != nil {
		server.GetOnlineClients()
	}
	panic("no log")
}

// A log handler that panics, or that uses the server, harms neither the server nor
// a client, whatever they log meanwhile.
func TestRudeLogHandler(t *testing.T) {
	handler := rudeHandler{new(atomic.Int64), new(atomic.Pointer[testServer])}
	server := startServer(t, crosscomm.Config{Logger: slog.New(handler), Limits: crosscomm.Limits{QueuedBytes: 16 << 10}})
	handler.server.Store(server)
	slow, other := loginRaw(t, server.addr, "slow"), loginRaw(t, server.addr, "other")
	text := frameOf("other", "slow", "text", `"`+strings.Repeat("x", 100_000)+`"`)
	testkit.Eventually(t, "the queue is full", func() bool {
		other.write(text)
		return server.Stats().TooSlow > 0
	})
	other.write("no frame")
	slow.Close()

	// One that logs in again and again, and reads no answer.
	again := loginRaw(t, server.addr, "again")
	logins := make([]string, 500)
	for i := range logins {
		logins[i] = frameOf("again", "server", "login", "{}")
	}
	_ = again.NetConn().SetWriteDeadline(time.Now().Add(testkit.Patience))
	for err := error(nil); err == nil && server.Stats().TooSlow < 2; {
		_, err = again.NetConn().Write(testkit.Burst(logins...))
	}

	newer := loginRaw(t, server.addr, "other") // it takes over
	newer.write(frameOf("other", "server", "list_clients", `{"only_show_online": true}`))
	if got := newer.read(); !strings.Contains(got, "list_clients_response") {
		t.Errorf("got %s", got)
	}
	server.stop()
	if handler.lines.Load() < 5 || server.Stats().TooSlow < 2 {
		t.Errorf("%d lines, %+v", handler.lines.Load(), server.Stats())
	}
}
