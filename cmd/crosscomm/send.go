package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"

	"github.com/crosscomm/crosscomm-go"
)

type sendCommand struct {
	clientFlags
	To      string  `help:"The receiver: a client's id, all or server." default:"all" placeholder:"ID"`
	Type    string  `help:"The type of the content: text, json, dict, bytes, image, file or folder." enum:"text,json,dict,bytes,image,file,folder" default:"text" placeholder:"TYPE"`
	Wait    string  `help:"Wait until each message has come so far: accepted (it is safe with the server), written (the receiver's program has it) or handled (its listeners have returned)." enum:",accepted,written,handled" default:"" placeholder:"STAGE"`
	Lines   bool    `help:"Send a message for each line of standard input."`
	JSON    bool    `name:"json" help:"Print what became of each message, and how far an image, a file or a folder has come, one JSON object a line."`
	Timeout seconds `help:"How long to try to log in, and to send each message and wait for it (10s without it); for an image, a file or a folder, how long it may make no progress (1m)." placeholder:"DURATION"`
	Content content `arg:"" optional:"" help:"The content, - for all of standard input, or the path of an image, a file or a folder."`
}

// content is an argument to the byte: kong's own strings pass through JSON,
// which replaces what is not UTF-8.
type content struct {
	given bool
	text  string
}

// Decode is called by kong.
func (c *content) Decode(ctx *kong.DecodeContext) error {
	text, ok := ctx.Scan.Pop().Value.(string)
	if !ok {
		return errors.New("the content is missing")
	}
	c.given, c.text = true, text
	return nil
}

// Help is shown by kong.
func (sendCommand) Help() string {
	return `It ends when the message is written to the server, or, with --wait, has come so far; it fails if it does not. Images, files and folders are stored before, by the server or, if OSS_ENDPOINT and the like are set, by OSS. One of more than 16 MiB that was cut goes on where it stopped when it is sent again.

Examples:
  crosscomm send --server 192.168.1.10:9898 --to desk "dinner is ready"
  crosscomm send --type dict '{"speed": 0.5}'
  crosscomm send --to robot-7 --wait handled --timeout 1m "go home"
  crosscomm send --type bytes - < photo.raw
  crosscomm send --server 192.168.1.10:9898 --to desk --type file report.pdf
  tail -f /var/log/syslog | crosscomm send --id router --lines

With --lines a line that cannot be sent is reported, and the others still go; the exit code is 1 then.

With --json it prints a line for each message, {"event": "sent", "msg_id": …, "content": …}, where the event is "accepted", "written" or "handled" if it waited for that, or "failed", with an "error". One to all has also "receivers", "accepted", "written", "handled" and "failed", how many clients it went to and how far it came; that some have failed is no failure of the command. For files it prints {"event": "progress", "op": "upload", "key": …, "path": …, "bytes": …, "total": …, "file": …, "files": …, "done": …}, with "error" if it has failed.`
}

// Run is called by kong.
func (c sendCommand) Run(ctx context.Context, con console) error {
	report, out, con := newReporter(con, c.JSON)
	cfg, done, err := c.config(con.stderr)
	if err != nil {
		return err
	}
	defer done()
	var data []byte
	switch {
	case c.isFile() && (c.Lines || c.Content.text == "-"):
		return usageError{fmt.Sprintf("--type %s takes the path of one: standard input (- or --lines) cannot be sent so; a file of the name - is ./-", c.Type)}
	case c.isFile() && !c.Content.given:
		return usageError{fmt.Sprintf("nothing to send: give the path of the %s", c.Type)}
	case c.Lines && c.Content.given:
		return usageError{"--lines takes its messages from standard input: give no content"}
	case c.Lines:
	case !c.Content.given:
		return usageError{"nothing to send: give the content, - for standard input, or --lines"}
	case c.Content.text == "-":
		if data, err = readAll(ctx, con.stdin); err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
	default:
		data = []byte(c.Content.text)
	}
	cfg.OnProgress = report.report
	svc, err := login(ctx, cfg, c.Timeout.or(messageTimeout))
	if err != nil {
		return err
	}
	defer logout(svc)
	switch {
	case c.Lines:
		return cmp.Or(c.sendLines(ctx, svc, con, out), out.err)
	case c.isFile():
		err := c.sendFile(ctx, svc, report, out)
		report.close()
		return cmp.Or(err, out.err)
	}
	return cmp.Or(c.send(ctx, svc, data, out), out.err)
}

// stage is how far it is waited.
func (c sendCommand) stage() crosscomm.Stage {
	switch c.Wait {
	case crosscomm.Accepted.String():
		return crosscomm.Accepted
	case crosscomm.Written.String():
		return crosscomm.Written
	case crosscomm.Handled.String():
		return crosscomm.Handled
	}
	return crosscomm.Sent
}

// deliver sends a message, and prints what became of it if events are wanted.
func (c sendCommand) deliver(ctx context.Context, svc *crosscomm.Service, value any, text string, out *printer) error {
	receipt, err := svc.Deliver(ctx, value, crosscomm.MsgType(c.Type), c.To, c.stage())
	if c.JSON {
		out.receipt(receipt, text, c.To == crosscomm.All && c.stage() > crosscomm.Sent, err)
	}
	return err
}

// isFile reports whether the content is the path of what is sent.
func (c sendCommand) isFile() bool {
	switch crosscomm.MsgType(c.Type) {
	case crosscomm.TypeImage, crosscomm.TypeFile, crosscomm.TypeFolder:
		return true
	}
	return false
}

func (c sendCommand) sendFile(ctx context.Context, svc *crosscomm.Service, report *reporter, out *printer) error {
	ctx, cancel := report.limit(ctx, c.Timeout.or(stallTimeout))
	defer cancel()
	return c.deliver(ctx, svc, c.Content.text, c.Content.text, out)
}

func (c sendCommand) send(ctx context.Context, svc *crosscomm.Service, data []byte, out *printer) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.or(messageTimeout))
	defer cancel()
	var value any = data
	if crosscomm.MsgType(c.Type) == crosscomm.TypeDict {
		value = json.RawMessage(data)
	}
	return c.deliver(ctx, svc, value, string(data), out)
}

func (c sendCommand) sendLines(ctx context.Context, svc *crosscomm.Service, con console, out *printer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := readLines(ctx, con.stdin)
	for n, failed := 1, 0; ; n++ {
		var line input
		select {
		case line = <-lines:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch {
		case errors.Is(line.err, io.EOF) && failed > 0:
			return fmt.Errorf("%d of %d lines could not be sent", failed, n-1)
		case errors.Is(line.err, io.EOF):
			return nil
		case line.err != nil && !errors.Is(line.err, errLongLine):
			return fmt.Errorf("standard input: %w", line.err)
		}
		err := line.err
		if err == nil {
			err = c.send(ctx, svc, line.text, out)
		} else if c.JSON {
			out.receipt(crosscomm.Receipt{}, "", false, err)
		}
		if errors.Is(err, crosscomm.ErrNotConnected) || ctx.Err() != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err != nil {
			failed++
			fmt.Fprintf(con.stderr, "line %d: %v\n", n, err)
		}
	}
}

// readAll reads r to its end, unless ctx ends before; the read that is then
// under way is left behind, for the program is about to end.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(r)
		done <- result{data, err}
	}()
	select {
	case res := <-done:
		return res.data, res.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// maxLine is the longest line that is read; no server takes a message so large.
const maxLine = 4 << 20

var errLongLine = fmt.Errorf("the line has more than %d bytes", maxLine)

// input is a line of standard input, or why there is none.
type input struct {
	text []byte
	err  error // errLongLine, after which more lines may come, or the end
}

// readLines reads lines, without their ends, until the end of r, which comes
// as an error, or of ctx.
func readLines(ctx context.Context, r io.Reader) <-chan input {
	lines := make(chan input)
	go func() {
		buffered := bufio.NewReaderSize(r, 64<<10)
		for {
			in := readLine(buffered)
			select {
			case lines <- in:
			case <-ctx.Done():
				return
			}
			if in.err != nil && !errors.Is(in.err, errLongLine) {
				return
			}
		}
	}()
	return lines
}

// readLine reads a line; the last one may lack its end.
func readLine(r *bufio.Reader) (in input) {
	for {
		part, err := r.ReadSlice('\n')
		if len(in.text)+len(part) > maxLine {
			in.text, in.err = nil, errLongLine // the rest of it is read and dropped
		}
		if in.err == nil {
			in.text = append(in.text, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == nil, in.err != nil, errors.Is(err, io.EOF) && len(in.text) > 0:
			in.text = trimLineEnd(in.text)
		default:
			in.err = err
		}
		return in
	}
}

func trimLineEnd(line []byte) []byte {
	for _, end := range []byte{'\n', '\r'} {
		if n := len(line); n > 0 && line[n-1] == end {
			line = line[:n-1]
		}
	}
	return line
}
