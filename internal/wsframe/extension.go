package wsframe

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	extensions = "Sec-WebSocket-Extensions"
	deflate    = "permessage-deflate"

	// What both ends do here, whether it is asked for or not.
	serverForgets = "server_no_context_takeover"
	clientForgets = "client_no_context_takeover"
	// What is sent here takes all bits; what comes may have as few as it likes.
	serverBits = "server_max_window_bits"
	clientBits = "client_max_window_bits"
)

// SetOffer makes a client's headers offer permessage-deflate, as AgreesToDeflate
// judges the answer to it.
func SetOffer(h http.Header) {
	h[extensions] = []string{deflate + "; " + serverForgets + "; " + clientForgets}
}

// OfferDeflate reports whether a client offers permessage-deflate in the headers of
// its handshake, in a way that can be agreed to, and leaves no other offer there.
// Then who reads them next cannot see it otherwise.
func OfferDeflate(h http.Header) bool {
	offered := slices.ContainsFunc(h.Values(extensions), func(value string) bool {
		list, _ := parseExtensions(value)
		return slices.ContainsFunc(list, func(e extension) bool {
			return e.name == deflate && e.permits(map[string]func(param) bool{
				serverForgets: param.isFlag,
				clientForgets: param.isFlag,
				clientBits:    func(p param) bool { return p.isFlag() || p.isBits() },
			}) // and not serverBits: a server that agrees to that must keep it
		})
	})
	h.Del(extensions)
	if offered {
		h.Set(extensions, deflate)
	}
	return offered
}

// AgreesToDeflate reports whether a server agrees to permessage-deflate in the
// headers of its answer. The error is that of one that agrees to what the client has
// not offered; it has offered nothing, or to use it without context takeover.
func AgreesToDeflate(h http.Header, offered bool) (bool, error) {
	values := h.Values(extensions)
	if len(values) == 0 {
		return false, nil
	}
	list, ok := parseExtensions(strings.Join(values, ","))
	if ok && offered && len(list) == 1 && list[0].name == deflate && list[0].has(serverForgets) && list[0].permits(map[string]func(param) bool{
		serverForgets: param.isFlag,
		clientForgets: param.isFlag,
		serverBits:    param.isBits,
	}) {
		return true, nil
	}
	offer := "nothing"
	if offered {
		offer = deflate + "; " + serverForgets
	}
	return false, fmt.Errorf("%w: it wants %.200q, and was offered %s", ErrExtension, values, offer)
}

// ErrExtension is wrapped by the error of AgreesToDeflate.
var ErrExtension = errors.New("the server agrees to an extension that was not offered to it")

// extension is one in a header.
type extension struct {
	name   string
	params []param
}

type param struct {
	name, value string
	hasValue    bool
}

func (p param) isFlag() bool { return !p.hasValue }

// isBits reports whether it has the size of a window, as RFC 7692 7.1.2 writes it.
func (p param) isBits() bool {
	n, err := strconv.Atoi(p.value)
	return p.hasValue && err == nil && n >= 8 && n <= 15 && strconv.Itoa(n) == p.value
}

func (e extension) has(name string) bool {
	return slices.ContainsFunc(e.params, func(p param) bool { return p.name == name })
}

// permits reports whether it has only such parameters, each once.
func (e extension) permits(known map[string]func(param) bool) bool {
	for _, p := range e.params {
		check := known[p.name]
		if check == nil || !check(p) {
			return false
		}
		delete(known, p.name)
	}
	return true
}

// parseExtensions takes the value of a header apart, as RFC 6455 9.1 writes it.
func parseExtensions(value string) (list []extension, ok bool) {
	for rest := "," + value; rest != ""; {
		var e extension
		if rest[0] != ',' {
			return nil, false
		}
		if e.name, rest = cutToken(rest[1:]); e.name == "" {
			return nil, false
		}
		for strings.HasPrefix(rest, ";") {
			var p param
			if p.name, rest = cutToken(rest[1:]); p.name == "" {
				return nil, false
			}
			if strings.HasPrefix(rest, "=") {
				p.hasValue = true
				if p.value, rest = cutValue(rest[1:]); p.value == "" {
					return nil, false
				}
			}
			e.params = append(e.params, p)
		}
		list = append(list, e)
	}
	return list, true
}

const space = " \t"

// cutToken returns the token with which s begins, "" for none, and what comes after
// it, both without the space around them.
func cutToken(s string) (token, rest string) {
	s = strings.TrimLeft(s, space)
	end := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
	if end < 0 {
		end = len(s)
	}
	return s[:end], strings.TrimLeft(s[end:], space)
}

// cutValue is cutToken for a value, which may be quoted but must still be a token.
func cutValue(s string) (value, rest string) {
	quoted, isQuoted := strings.CutPrefix(strings.TrimLeft(s, space), `"`)
	if !isQuoted {
		return cutToken(s)
	}
	value, rest = cutToken(quoted)
	if rest, isQuoted = strings.CutPrefix(rest, `"`); !isQuoted {
		return "", rest
	}
	return value, strings.TrimLeft(rest, space)
}
