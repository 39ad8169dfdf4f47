package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

type listenCommand struct {
	clientFlags
	Type        string  `help:"Print only messages of this type: text, json, dict, bytes, image, file or folder." enum:",text,json,dict,bytes,image,file,folder" default:"" placeholder:"TYPE"`
	From        string  `help:"Print only messages of this sender." placeholder:"ID"`
	DownloadDir content `help:"Download images, files and folders into this directory; made if it is missing." placeholder:"DIR"`
	MaxDownload size    `help:"How large a file or a folder may be to be downloaded, such as 2GB; without it there is no bound." placeholder:"SIZE"`
	JSON        bool    `name:"json" help:"Print events and messages, one JSON object a line."`
	Count       int     `help:"End after this many messages; 0 goes on until Ctrl-C." placeholder:"N"`
	Timeout     seconds `help:"End after this time; a failure if --count messages have not come." placeholder:"DURATION"`
	Retry       bool    `help:"Keep trying if the server is not there yet."`
}

// Help is shown by kong.
func (listenCommand) Help() string {
	return `It reconnects by itself, and ends on Ctrl-C.

Examples:
  crosscomm listen --server 192.168.1.10:9898 --id desk --type text
  crosscomm listen --server 192.168.1.10:9898 --id desk --download-dir inbox

A message with a file is printed when that was downloaded, or could not be. Without --download-dir its key is told, for crosscomm download.

With --json it prints {"event": "message", …} with the seven keys of the message as they came (bytes in base64), and "path" if something was downloaded, or "error" if it could not be; {"event": "up", …} after each login, {"event": "down", "error": …} when the link is lost, and {"event": "progress", …} during downloads, as crosscomm download does.`
}

// Run is called by kong.
func (c listenCommand) Run(ctx context.Context, con console) error {
	report, out, con := newReporter(con, c.JSON)
	defer report.close()
	cfg, done, err := c.config(con.stderr)
	if err != nil {
		return err
	}
	defer done()
	if c.Count < 0 {
		return usageError{fmt.Sprintf("--count is %d; it must not be negative", c.Count)}
	}
	if c.DownloadDir.given && c.DownloadDir.text == "" {
		return usageError{"--download-dir is empty"}
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.Timeout))
		defer cancel()
	}
	ended := make(chan error, 1)
	end := func(err error) {
		select {
		case ended <- err:
		default:
		}
	}
	out.failed = end
	var svc *crosscomm.Service
	up := make(chan struct{}) // closed when the first login has been told
	tellUp := sync.OnceFunc(func() { close(up) })
	cfg.RetryLogin = c.Retry
	cfg.MaxDownloadSize = int64(c.MaxDownload)
	cfg.OnProgress = report.report
	cfg.OnUp = func() {
		defer tellUp()
		server, _, _ := strings.Cut(svc.Config().URL, "?") // there may be a token
		if c.JSON {
			out.event("up", "client_id", svc.ClientID(), "server", server)
		} else {
			fmt.Fprintf(con.stderr, "listening as %s at %s\n", printable(svc.ClientID()), printable(server))
		}
	}
	cfg.OnDown = func(err error) {
		if c.JSON {
			out.event("down", "error", err.Error())
		} else if !forGood(err) {
			fmt.Fprintf(con.stderr, "the link is down (%s), reconnecting\n", printable(err.Error()))
		}
		if forGood(err) {
			end(err)
		}
	}
	if svc, err = crosscomm.New(cfg); err != nil {
		return usageError{err.Error()}
	}
	if c.DownloadDir.given {
		// At each message it would be an error that is easily missed.
		if err := os.MkdirAll(c.DownloadDir.text, 0o777); err != nil {
			return fmt.Errorf("--download-dir: %w", err)
		}
	}
	count := 0
	svc.MessageListener(func(ctx context.Context, m *crosscomm.Message) error {
		select { // people and scripts expect to read first that the link is up
		case <-up:
		case <-ctx.Done():
			return nil
		}
		if c.Count > 0 && count == c.Count {
			return nil
		}
		if c.JSON {
			out.message(m)
		} else {
			out.line("%s", describe(m))
		}
		if count++; count == c.Count {
			end(nil)
		}
		return nil
	}, crosscomm.ListenerOptions{Type: crosscomm.MsgType(c.Type), From: c.From, DownloadDirectory: c.DownloadDir.text})

	if err := svc.Login(ctx); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil // Ctrl-C is the way to end it, also before the server was there
		}
		return err
	}
	defer logout(svc)
	<-up
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if c.Count > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("fewer than %d messages came within %v", c.Count, time.Duration(c.Timeout))
	}
	return nil
}
