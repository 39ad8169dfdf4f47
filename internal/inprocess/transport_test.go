package inprocess

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTransport(t *testing.T) {
	client := &http.Client{Transport: Transport{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			w.Header()["x-lower"] = []string{"yes"}
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, "%s %s %d ", r.Method, r.RequestURI, r.ContentLength)
			_, _ = io.Copy(w, r.Body)
		case "/nothing":
		case "/abort":
			_, _ = io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		case "/panic":
			panic("oh")
		case "/wait":
			_, _ = io.WriteString(w, "begun")
			<-r.Context().Done()
		case "/ignores":
			<-r.Context().Done()
		}
	})}}
	do := func(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, method, "http://x"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(r)
	}
	ctx := context.Background()
	for _, c := range []struct {
		body io.Reader
		want string
	}{
		{strings.NewReader("text"), "PUT /echo?q=%20 4 text"},
		{io.MultiReader(strings.NewReader("te"), strings.NewReader("xt")), "PUT /echo?q=%20 -1 text"},
		{nil, "PUT /echo?q=%20 0 "},
		{bytes.NewReader(bytes.Repeat([]byte("x"), 1<<20)), "PUT /echo?q=%20 1048576 " + strings.Repeat("x", 1<<20)},
	} {
		resp, err := do(ctx, "PUT", "/echo?q=%20", c.body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != c.want || resp.Status != "202 Accepted" || resp.StatusCode != http.StatusAccepted || resp.Header.Get("X-Lower") != "yes" {
			t.Errorf("got %d %.60q, %v; want %.60q", resp.StatusCode, got, err, c.want)
		}
	}
	if resp, err := do(ctx, "GET", "/nothing", nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("nothing: %v", err)
	} else if got, err := io.ReadAll(resp.Body); err != nil || len(got) != 0 {
		t.Errorf("nothing: %q, %v", got, err)
	}
	resp, err := do(ctx, "GET", "/abort", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "half" {
		t.Errorf("abort: %q, %v", got, err)
	}
	if _, err := do(ctx, "GET", "/panic", nil); err == nil || !strings.Contains(err.Error(), "oh") {
		t.Errorf("panic: %v", err)
	}
	limited, cancel := context.WithCancel(ctx)
	if resp, err = do(limited, "GET", "/wait", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	cancel()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	if _, err := do(limited, "GET", "/ignores", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("ignores: %v", err)
	}
}
