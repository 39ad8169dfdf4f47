// Command embed mounts a crosscomm server in an HTTP service that has routes
// of its own: clients connect at /ws, their files go by /crosscomm/, /online
// tells who is there, and what is posted to /say goes to all of them.
//
//	go run ./examples/embed
//	go run ./cmd/crosscomm listen --server ws://127.0.0.1:8080/ws
//	curl -d 'hello from HTTP' http://127.0.0.1:8080/say
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/crosscomm/crosscomm-go"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address and port to listen on")
	data := flag.String("data", "crosscomm-data", "directory for files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *data); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, dataDir string) error {
	comm, err := crosscomm.New(crosscomm.Config{Role: crosscomm.Server, NoStateFile: true, DataDir: dataDir})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", comm)
	mux.Handle("/crosscomm/", comm) // files, which OSS clients put and get by their bucket's name
	mux.HandleFunc("GET /online", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(comm.GetOnlineClients())
	})
	mux.HandleFunc("POST /say", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100_000))
		if err == nil {
			err = comm.SendMessage(r.Context(), text, crosscomm.TypeText, crosscomm.All)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})

	web := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = comm.Stop(stopping) // an http.Server leaves WebSockets alone
		_ = web.Shutdown(stopping)
	}()
	fmt.Printf("serving on http://%s; Ctrl-C ends\n", addr)
	if err := web.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
