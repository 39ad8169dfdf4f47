//go:build linux

package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/crosscomm/crosscomm-go/bench/internal/wire"
)

const (
	opContinuation = 0
	opText         = 1
	opClose        = 8
	opPing         = 9
	opPong         = 10

	isFinal  = 0x80
	reserved = 0x70
	isMasked = 0x80

	mostRequest = 16 << 10
)

// header is that of a client's frame.
type header struct {
	final bool
	op    byte
	mask  uint32
	size  int // of the header itself
}

// parse returns the header of the frame at the beginning of b, and the size of
// the whole frame: 0 if there is too little of it to tell, and -1 if no client
// may send it.
func parse(b []byte) (h header, size int) {
	if len(b) < 2 {
		return h, 0
	}
	h.final, h.op, h.size = b[0]&isFinal != 0, b[0]&0xF, 2
	n := int(b[1] &^ isMasked)
	if b[0]&reserved != 0 || b[1]&isMasked == 0 || h.op >= opClose && (n > 125 || !h.final) {
		return h, -1
	}
	switch n {
	case 126:
		if h.size = 4; len(b) < h.size {
			return h, 0
		}
		n = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if h.size = 10; len(b) < h.size {
			return h, 0
		}
		long := binary.BigEndian.Uint64(b[2:])
		if long > wire.MaxMessage {
			return h, -1
		}
		n = int(long)
	}
	h.size += 4
	if len(b) < h.size {
		return h, 0
	}
	h.mask = binary.LittleEndian.Uint32(b[h.size-4:])
	return h, h.size + n
}

// unmask writes what the masked src is into dst, which may be the same. It does
// so for the load generator's mask of zeros, too: clients have others.
func unmask(dst, src []byte, mask uint32) {
	wide := uint64(mask)<<32 | uint64(mask)
	i := 0
	for ; i+8 <= len(src); i += 8 {
		binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(src[i:])^wide)
	}
	for ; i < len(src); i++ {
		dst[i] = src[i] ^ byte(mask>>(8*(i%4)))
	}
}

// appendHeader appends the header of a server's frame.
func appendHeader(b []byte, op byte, n int) []byte {
	switch {
	case n < 126:
		return append(b, isFinal|op, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, isFinal|op, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, isFinal|op, 127), uint64(n))
}

// upgrade answers to the HTTP request, if it is there whole, and returns its
// size. It only looks for what the answer needs.
func (r *relay) upgrade(c *conn, data []byte) (used int) {
	head, _, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok {
		if len(data) > mostRequest {
			r.close(c)
		}
		return 0
	}
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !bytes.EqualFold(name, []byte("Sec-WebSocket-Key")) {
			continue
		}
		sum := sha1.Sum(append(bytes.TrimSpace(bytes.Clone(value)), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
		at := len(r.out)
		r.out = fmt.Appendf(r.out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
		r.send(c, at)
		c.upgraded = true
		return len(head) + 4
	}
	at := len(r.out)
	r.out = append(r.out, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"...)
	r.send(c, at)
	r.close(c)
	return len(data)
}
