package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

type clientsCommand struct {
	clientFlags
	All     bool    `help:"List also those that are offline."`
	Watch   bool    `help:"Print who is there, and then who comes and goes, until Ctrl-C; not this command itself."`
	JSON    bool    `name:"json" help:"Print a JSON object a line."`
	Timeout seconds `help:"How long to wait for the server." default:"10s" placeholder:"DURATION"`
}

// Help is shown by kong.
func (clientsCommand) Help() string {
	return `The list includes this command itself: it logs in to ask.

Examples:
  crosscomm clients --server 192.168.1.10:9898 --all
  crosscomm clients --server 192.168.1.10:9898 --watch

With --json it prints {"client_id": …, "status": "online" or "offline", "last_heartbeat": …, "login_time": …} for each, the times in seconds since 1970.

With --watch the list does not include this command. A line has the time, the client, and what has happened: present (it was there at first, since that time), joined, left, timed_out (it is silent), back, or replaced (by a newer login). With --json that is {"event": …, "client_id": …, "time": …}. It reconnects by itself, and prints what is different then.`
}

// Run is called by kong.
func (c clientsCommand) Run(ctx context.Context, con console) error {
	cfg, done, err := c.config(con.stderr)
	if err != nil {
		return err
	}
	defer done()
	if c.Watch {
		return c.watch(ctx, con, cfg)
	}
	svc, err := login(ctx, cfg, time.Duration(c.Timeout))
	if err != nil {
		return err
	}
	defer logout(svc)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	list, err := svc.ListClients(ctx, !c.All)
	if err != nil {
		return err
	}
	out := &printer{w: con.stdout}
	if c.JSON {
		for _, client := range list.Clients {
			line, err := json.Marshal(client)
			if err != nil {
				return err
			}
			out.line("%s", line)
		}
	} else {
		printTable(out, list.Clients)
	}
	if len(list.Clients) < list.TotalCount {
		fmt.Fprintf(con.stderr, "the server has listed %d of %d clients: the list is too long for a message\n", len(list.Clients), list.TotalCount)
	}
	return out.err
}

func printTable(out *printer, clients []crosscomm.ClientInfo) {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CLIENT\tSTATUS\tLAST SEEN\tLOGIN")
	for _, client := range clients {
		status := "offline"
		if client.Online {
			status = "online"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", printable(client.ClientID), status, moment(client.LastHeartbeat), moment(client.LoginTime))
	}
	_ = table.Flush() // to memory
	out.line("%s", strings.TrimSuffix(text.String(), "\n"))
}

func moment(t time.Time) string {
	if t.Unix() <= 0 {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}
