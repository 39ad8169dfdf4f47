// Command crosscomm is the crosscomm package as a program: a server, and small
// clients for shells and scripts. See crosscomm --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

// The exit codes.
const (
	exitOK    = 0
	exitFail  = 1
	exitUsage = 2
)

// program is the command line; kong fills it.
type program struct {
	Server   serverCommand   `cmd:"" help:"Run a server, which carries files, too."`
	Listen   listenCommand   `cmd:"" help:"Print the messages that arrive."`
	Send     sendCommand     `cmd:"" help:"Send a message, a file or a folder, or a message per line of standard input."`
	Clients  clientsCommand  `cmd:"" help:"List the clients of a server."`
	Download downloadCommand `cmd:"" help:"Download an image, a file or a folder by its key."`
	Bench    benchCommand    `cmd:"" help:"Load a server, and measure it."`

	Version kong.VersionFlag `help:"Print the version."`
}

// console is where a command reads and prints.
type console struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// usageError reports a command line that makes no sense.
type usageError struct{ reason string }

func (e usageError) Error() string { return e.reason }

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C logs out; a second one kills.
	context.AfterFunc(ctx, restore)
	os.Exit(run(ctx, os.Args[1:], console{os.Stdin, os.Stdout, os.Stderr}))
}

// run runs the command line and returns its exit code.
func run(ctx context.Context, args []string, con console) int {
	var prog program
	helped := false
	parser, err := kong.New(&prog,
		kong.Name("crosscomm"),
		kong.Description("Messages between devices and languages: a server for pywayne.cross_comm's Python, Java, Swift and Go programs, and clients for the shell."),
		kong.Writers(con.stdout, con.stderr),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(func(value *kong.Value) string {
			if value.HasDefault && value.Default != "" && !value.IsBool() {
				return value.Help + " [" + value.Default + "]"
			}
			return value.Help
		}),
		kong.Vars{"version": version()},
	)
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err == nil {
		command.BindTo(ctx, (*context.Context)(nil))
		err = command.Run(con)
	}
	var parse *kong.ParseError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &parse), errors.As(err, &usage):
		fmt.Fprintf(con.stderr, "%s; see crosscomm --help\n", printable(withName(err)))
		return exitUsage
	}
	fmt.Fprintln(con.stderr, printable(withName(err)))
	return exitFail
}

// withName puts the program's name before an error that does not begin with it,
// as the library's do.
func withName(err error) string {
	const name = "crosscomm: "
	text := err.Error()
	if len(text) >= len(name) && text[:len(name)] == name {
		return text
	}
	return name + text
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "crosscomm (development)"
	}
	return "crosscomm " + info.Main.Version
}
