package link_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/wsframe"
)

// deflated is the payload of a compressed message, at a level of package flate.
func deflated(s string, level int) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write([]byte(s)) // into memory
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), wsframe.FlushTail)
}

// deflateRules are those of RFC 7692.
func deflateRules() (rules []rule) {
	const zText, zBinary = rsv1 | wsframe.OpText, rsv1 | wsframe.OpBinary
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00" // all these are of RFC 7692 7.2.3
	rules = []rule{
		{name: "compressed", sent: []rawFrame{whole(zText, hello)}, echoed: []string{"tHello"}},
		{name: "a binary", sent: []rawFrame{whole(zBinary, hello)}, echoed: []string{"bHello"}},
		{name: "compressed in parts", sent: []rawFrame{part(zText, hello[:3]), whole(wsframe.OpMore, hello[3:])}, echoed: []string{"tHello"}},
		{name: "compressed around a ping", sent: []rawFrame{part(zText, ""), ping("p"), part(wsframe.OpMore, hello), whole(wsframe.OpMore, "")}, echoed: []string{"tHello"}, pongs: []string{"p"}},
		{name: "a stored block", sent: []rawFrame{whole(zText, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00")}, echoed: []string{"tHello"}},
		{name: "a last block", sent: []rawFrame{whole(zText, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00")}, echoed: []string{"tHello"}},
		{name: "two blocks", sent: []rawFrame{whole(zText, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00")}, echoed: []string{"tHello"}},
		{name: "compressed nothing", sent: []rawFrame{whole(zText, "\x00")}, echoed: []string{"t"}},
		{name: "compressed and not", sent: []rawFrame{text("a"), whole(zText, hello), part(wsframe.OpText, "b"), whole(wsframe.OpMore, "c"), whole(zBinary, hello), text("d")}, echoed: []string{"ta", "tHello", "tbc", "bHello", "td"}},
		{name: "no context is kept", sent: []rawFrame{whole(zText, hello)}, echoed: []string{"tHello"}, last: []rawFrame{whole(zText, "\xf2\x00\x11\x00\x00")}, code: 1007, ours: true},

		{name: "compressed nothing without a byte", last: []rawFrame{whole(zText, "")}, code: 1007, ours: true},
		{name: "no deflate", last: []rawFrame{whole(zText, "no deflate")}, code: 1007, ours: true},
		{name: "a block that does not end", last: []rawFrame{whole(zText, deflated(strings.Repeat("block ", 50), 9)[:10])}, code: 1007, ours: true},
		{name: "more behind the last block", last: []rawFrame{whole(zText, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"+hello)}, code: 1007, ours: true},
		{name: "compressed bad UTF-8", last: []rawFrame{whole(zText, deflated("x\xff", 1))}, code: 1007, ours: true},
		{name: "compressed bad UTF-8 in a binary", sent: []rawFrame{whole(zBinary, deflated("x\xff", 1))}, echoed: []string{"bx\xff"}},
		{name: "a bomb", last: []rawFrame{whole(zText, deflated(strings.Repeat("\x00", 2<<20), 9))}, code: 1009, ours: true},
		{name: "inflates to one byte too many", last: []rawFrame{whole(zText, deflated(strings.Repeat("x", maxOfRules+1), 1))}, code: 1009, ours: true},
		{name: "too large before it is inflated", last: []rawFrame{{first: fin | zText, length: "\x7f\x00\x00\x00\x00\x00\x02\x00\x00"}}, code: 1009, ours: true},
		{name: "a part says that it is compressed", last: []rawFrame{part(zText, hello[:2]), whole(rsv1|wsframe.OpMore, hello[2:])}, code: 1002, ours: true},
		{name: "only the second part says so", last: []rawFrame{part(wsframe.OpText, "x"), whole(rsv1|wsframe.OpMore, hello)}, code: 1002, ours: true},
	}
	for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
		for _, n := range []int{1, 16, 1000, 40_000, maxOfRules} {
			s := (unruly + strings.Repeat("0123456789", 2000))[:min(n, len(unruly))]
			s += strings.Repeat("y", n-len(s))
			z := deflated(s, level)
			rules = append(rules,
				rule{name: fmt.Sprintf("level %d, %d bytes", level, n), sent: []rawFrame{whole(zText, z)}, echoed: []string{"t" + s}},
				rule{name: fmt.Sprintf("level %d, %d bytes in parts", level, n), sent: []rawFrame{part(zText, z[:len(z)/3]), part(wsframe.OpMore, z[len(z)/3:len(z)/2]), whole(wsframe.OpMore, z[len(z)/2:])}, echoed: []string{"t" + s}})
		}
	}
	for i := range rules {
		rules[i].kind = deflateOnly
	}
	// Without the extension its bit is a reserved one.
	return append(rules,
		rule{name: "compressed without agreement", last: []rawFrame{whole(zText, hello)}, code: 1002, ours: true, kind: plainOnly},
		rule{name: "a compressed part without agreement", last: []rawFrame{part(zBinary, hello)}, code: 1002, ours: true, kind: plainOnly})
}
