package loadgen_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/crosscomm/crosscomm-go/internal/loadgen"
)

// What makes no sense is told before anything is connected or made.
func TestValidate(t *testing.T) {
	good := loadgen.Config{URL: "ws://127.0.0.1:1/", Name: "c", Clients: 3, Size: 256, InFlight: 1, Duration: time.Minute}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		change func(*loadgen.Config)
		want   string
	}{
		"no clients":           {func(c *loadgen.Config) { c.Clients = 0 }, "at least 1 and at most"},
		"many clients":         {func(c *loadgen.Config) { c.Clients = math.MaxInt }, "at most 65535 clients"},
		"a small size":         {func(c *loadgen.Config) { c.Size = 10 }, "a message has at least"},
		"a negative size":      {func(c *loadgen.Config) { c.Size = math.MinInt }, "a message has at least"},
		"a large size":         {func(c *loadgen.Config) { c.Size = math.MaxInt }, "at most 67108864"},
		"nothing in flight":    {func(c *loadgen.Config) { c.InFlight = -1 }, "at least 1 message"},
		"much in flight":       {func(c *loadgen.Config) { c.InFlight = math.MaxInt }, "clients × in flight × size"},
		"much in all":          {func(c *loadgen.Config) { c.Clients, c.InFlight, c.Size = 1000, 1000, 1000 }, "clients × in flight × size"},
		"more than one can do": {func(c *loadgen.Config) { c.Clients, c.Size = loadgen.MaxClients, loadgen.MaxSize }, "clients × in flight × size"},
		"a negative warm-up":   {func(c *loadgen.Config) { c.WarmUp = -1 }, "the warm-up less than 0"},
		"a long warm-up":       {func(c *loadgen.Config) { c.WarmUp = math.MaxInt64 }, "more than 168h"},
		"no time":              {func(c *loadgen.Config) { c.Duration = 0 }, "more than 0"},
		"a long time":          {func(c *loadgen.Config) { c.Duration = math.MaxInt64 }, "more than 168h"},
	} {
		cfg := good
		c.change(&cfg)
		for load, run := range loads {
			if _, err := run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: got %v", name, load, err)
			}
		}
	}
}
