package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

// watch is crosscomm clients --watch.
func (c clientsCommand) watch(ctx context.Context, con console, cfg crosscomm.Config) error {
	if c.All {
		return usageError{"--watch tells of those who are there; give no --all"}
	}
	ended := make(chan error, 1)
	end := func(err error) {
		select {
		case ended <- err:
		default:
		}
	}
	out := &printer{w: con.stdout, failed: end}
	cfg.OnDown = func(err error) {
		if forGood(err) {
			end(err)
			return
		}
		fmt.Fprintf(con.stderr, "the link is down (%s), reconnecting\n", printable(err.Error()))
	}
	svc, err := login(ctx, cfg, time.Duration(c.Timeout))
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil // Ctrl-C is the way to end it
		}
		return err
	}
	defer logout(svc)
	stop, err := svc.WatchPresence(func(e crosscomm.PresenceEvent) {
		if c.JSON {
			out.presence(e)
		} else {
			out.line("%s  %s  %s", moment(e.Time), printable(e.ClientID), e.Kind)
		}
	}, crosscomm.PresenceOptions{})
	if err != nil {
		return err
	}
	defer stop()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}
