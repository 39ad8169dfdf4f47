// Package serve is what the Go servers of the comparison have in common beside
// the protocol: where they listen, and that they say so.
package serve

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"
)

// Listen reads the command line, and listens where that says. When it is done it
// prints the address, for which the comparison waits.
func Listen() net.Listener {
	return listen(func(l net.Listener) (net.Listener, error) { return l, nil })
}

// listen has what listens changed before it is told.
func listen(change func(net.Listener) (net.Listener, error)) net.Listener {
	address := flag.String("listen", "127.0.0.1:0", "the `address` to listen on; port 0 takes a free one")
	flag.Parse()
	log.SetFlags(0)
	if flag.NArg() > 0 {
		log.Fatalf("%q is not understood; see --help", flag.Arg(0))
	}
	l, err := net.Listen("tcp", *address)
	if err == nil {
		l, err = change(l)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	return l
}

// HTTP serves until the process is killed: there is nothing to save.
func HTTP(l net.Listener, upgrade http.HandlerFunc) {
	server := &http.Server{Handler: upgrade, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(l))
}
