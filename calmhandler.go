package crosscomm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// calmHandler keeps the panics of an application's log handler to itself. Lines
// are logged on all goroutines, and a bad one must not end the program.
type calmHandler struct{ handler slog.Handler }

var errLogPanicked = errors.New("the log handler panicked")

// Enabled implements slog.Handler.
func (h calmHandler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	defer func() { _ = recover() }()
	return h.handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h calmHandler) Handle(ctx context.Context, r slog.Record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errLogPanicked, p)
		}
	}()
	return h.handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h calmHandler) WithAttrs(attrs []slog.Attr) (with slog.Handler) {
	with = h
	defer func() { _ = recover() }()
	return calmHandler{h.handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h calmHandler) WithGroup(name string) (with slog.Handler) {
	with = h
	defer func() { _ = recover() }()
	return calmHandler{h.handler.WithGroup(name)}
}
