package crosscomm

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// What is no file of tokens is an error that does not tell them, and what is one
// has only ids that can log in and tokens that can be shown.
func FuzzTokens(f *testing.F) {
	for _, text := range []string{"", "# comment\na b\n* c\r\n", "id with spaces token\n", "\ufeffa b", "all x", "lonely", "a \x00", "a\u00a0b", "a\tb\u3000c"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseTokens(data)
		if err != nil {
			if list != nil || !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("got %v, %v", list, err)
			}
			return
		}
		for _, entry := range list {
			if entry.id != anyID && checkID(entry.id) != nil || entry.token == "" || checkToken(entry.token) != nil {
				t.Errorf("it has %q for %q", string(entry.token), entry.id)
			}
			r := &http.Request{Header: http.Header{"Authorization": {"Bearer " + string(entry.token)}}}
			if got := tokenOf(r); got != entry.token {
				t.Errorf("%q is shown as %q", string(entry.token), string(got))
			}
		}
	})
}

// What is read of a state file is written so that the same is read again.
func FuzzStates(f *testing.F) {
	for _, text := range []string{"", "{}", "a:\n  status: online\n  last_seen: 1.5\n", "a: 1", "- a", "? {a: b}\n: c", "a: &x\n  status: y\nb: *x\n", "yes:\n  status: offline\n  last_seen: .nan\n", "\"a\\nb\":\n  status: on\n  last_seen: 1e300\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		states, err := parseStates(data)
		if err != nil {
			return
		}
		written := func(states map[string]clientState) (list []memberState) {
			for _, id := range slices.Sorted(maps.Keys(states)) {
				list = append(list, memberState{&member{id: id}, states[id]})
			}
			return list
		}
		hub := newHub(&Service{cfg: Config{Limits: Limits{}.withDefaults()}})
		hub.restore(states)
		text, err := marshalStates(hub.states())
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseStates(text)
		if err != nil || len(again) != len(states) {
			t.Fatalf("%d clients became %d, %v:\n%s", len(states), len(again), err, text)
		}
		twice, err := marshalStates(written(again))
		if err != nil || string(twice) != string(text) {
			t.Fatalf("written again it is %s, was %s; %v", twice, text, err)
		}
	})
}

// Whatever a proxy says, the address is one, and it is the connection's own if that
// is no proxy.
func FuzzVisitorAddr(f *testing.F) {
	for _, header := range []string{"", "192.0.2.1", "1.2.3.4, 10.0.0.1", "::1%eth0", "::ffff:1.2.3.4", ",,", "unknown"} {
		f.Add("10.0.0.1:1", header)
		f.Add("192.0.2.7:1", header)
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, remote, header string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {header}}}
		addr := visitorAddr(r, proxies)
		from, err := netip.ParseAddrPort(remote)
		switch {
		case err != nil:
			if addr.IsValid() {
				t.Errorf("%q, %q: got %v", remote, header, addr)
			}
		case !addr.IsValid() || addr.Is4In6() || addr.Zone() != "":
			t.Errorf("%q, %q: got %v", remote, header, addr)
		case !within(proxies, from.Addr().Unmap()) && addr != from.Addr().Unmap().WithZone(""):
			t.Errorf("%q, %q: got %v", remote, header, addr)
		}
		if v := visitor(addr); v.IsValid() != addr.IsValid() {
			t.Errorf("%v is counted as %v", addr, v)
		}
	})
}
