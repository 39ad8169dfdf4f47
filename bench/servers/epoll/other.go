//go:build !linux

// Command epoll is the practical limit for the comparison; see main.go.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "this server is for Linux only: it uses epoll")
	os.Exit(1)
}
