// Command embedded is our library in a program of its own, for what crosscomm
// server has no flags for: TLS and permessage-deflate. Beyond that it is
// configured as that is in the comparison.
package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/crosscomm/crosscomm-go"
	"github.com/crosscomm/crosscomm-go/bench/internal/serve"
	"github.com/crosscomm/crosscomm-go/bench/internal/wire"
)

// gcPercent is that of crosscomm server.
const gcPercent = 40

func main() {
	l, deflate := serve.ListenSecure()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	svc, err := crosscomm.New(crosscomm.Config{
		Role: crosscomm.Server, Compression: deflate, MaxMessageSize: wire.MaxMessage,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		log.Fatal(err)
	}
	// It ends when it is killed, as the others do.
	log.Fatal(svc.Serve(context.Background(), l))
}
