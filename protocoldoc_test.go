package crosscomm_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// wireNumbers are the close codes and the statuses that this package takes from
// others by their names.
var wireNumbers = map[string]int{
	"CloseNormalClosure": 1000, "CloseGoingAway": 1001, "ClosePolicyViolation": 1008, "CloseMessageTooBig": 1009, "CloseInternalServerErr": 1011, "CloseTryAgainLater": 1013,
	"StatusUnauthorized": 401, "StatusForbidden": 403, "StatusUpgradeRequired": 426, "StatusTooManyRequests": 429, "StatusServiceUnavailable": 503,
}

// noWire are constants of the protocol's types, and files with JSON, that are not of the
// wire.
var noWire = map[string]bool{
	"unfinished":      true, // is never told
	"closeNoStatus":   true, // is never sent
	"accesskeys.go":   true, // on disk
	"uploadrecord.go": true, // on disk
}

// wireNames are what the source has that stands on the wire, each with how the protocol's
// text must have it.
type wireNames map[string]string

func (n wireNames) number(code int)   { n[fmt.Sprintf(`\| %d \|`, code)] = "a code" }
func (n wireNames) name(name string)  { n["`\"?"+regexp.QuoteMeta(name)+"\"?`"] = "a name" }
func (n wireNames) key(name string)   { n["[`\"]"+regexp.QuoteMeta(name)+"[`\"]"] = "a key" }
func (n wireNames) header(key string) { n["(?m)^\\| `"+regexp.QuoteMeta(key)+"` \\|"] = "a header" }

// collect adds those of a file.
func (n wireNames) collect(t *testing.T, path string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	inHeaders := false
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.TypeSpec:
			inHeaders = node.Name.Name == "headers"
		case *ast.ValueSpec:
			n.values(node)
		case *ast.Field:
			if node.Tag == nil || noWire[filepath.Base(path)] {
				break
			}
			tag, err := strconv.Unquote(node.Tag.Value)
			key, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			switch {
			case err != nil:
				t.Error(err)
			case inHeaders:
				n.header(key)
			case key != "":
				n.key(key)
			}
		case *ast.SelectorExpr:
			pkg, _ := node.X.(*ast.Ident)
			if pkg == nil || !(pkg.Name == "websocket" && strings.HasPrefix(node.Sel.Name, "Close") && node.Sel.Name != "CloseError") &&
				!(path == "handshake.go" && pkg.Name == "http" && strings.HasPrefix(node.Sel.Name, "Status")) {
				break
			}
			code, ok := wireNumbers[node.Sel.Name]
			if !ok {
				t.Errorf("%s uses %s, which wireNumbers does not have", path, node.Sel.Name)
			}
			n.number(code)
		}
		return true
	})
}

// values adds those of a declaration.
func (n wireNames) values(spec *ast.ValueSpec) {
	of, _ := spec.Type.(*ast.Ident)
	for i, name := range spec.Names {
		if i >= len(spec.Values) || noWire[name.Name] {
			continue
		}
		if list, ok := spec.Values[i].(*ast.CompositeLit); ok && name.Name == "stageNames" {
			for _, stage := range list.Elts[1:] { // "sent" is what needs no receipt
				text, _ := strconv.Unquote(stage.(*ast.BasicLit).Value)
				n.name(text)
			}
			continue
		}
		value, ok := spec.Values[i].(*ast.BasicLit)
		if !ok {
			continue
		}
		text, _ := strconv.Unquote(value.Value)
		code, _ := strconv.Atoi(value.Value)
		switch {
		case of != nil && slices.Contains([]string{"MsgType", "failure", "PresenceKind"}, of.Name), strings.HasPrefix(name.Name, "Key"),
			name.Name == "subprotocol", name.Name == "markPrefix", name.Name == "All", name.Name == "ServerID":
			n.name(text)
		case strings.HasPrefix(strings.ToLower(name.Name), "close") && code >= 1000 && code < 5000:
			n.number(code)
		}
	}
}

// Every type, key, header, error, event, stage, close code and status that the source has
// is in docs/protocol.md.
func TestProtocolIsWhole(t *testing.T) {
	text := protocolText(t)
	names := wireNames{}
	var files []string
	for _, pattern := range []string{"*.go", "internal/frame/*.go", "internal/link/*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, path := range files {
		if !strings.HasSuffix(path, "_test.go") {
			names.collect(t, path)
		}
	}
	for pattern, kind := range names {
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("docs/protocol.md does not have %s: %s", kind, pattern)
		}
	}
	// One of each kind, so that none is overlooked.
	for _, want := range []func(wireNames){
		func(n wireNames) {
			n.name("login")
			n.name("cancel")
			n.name("no_reply")
			n.name("timed_out")
			n.name("handled")
		},
		func(n wireNames) { n.name("oss_key"); n.name("crosscomm.v3"); n.name("mark"); n.name("all") },
		func(n wireNames) { n.key("access_key_secret"); n.key("last_heartbeat"); n.key("receivers") },
		func(n wireNames) { n.header("reply_to"); n.number(4005); n.number(1007); n.number(1011); n.number(401) },
	} {
		some := wireNames{}
		want(some)
		for pattern, kind := range some {
			if names[pattern] != kind {
				t.Errorf("the source does not have %s: %s", kind, pattern)
			}
		}
	}
}

func protocolText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What docs/protocol.md quotes of the conversations is what they have, and it names all.
func TestProtocolQuotes(t *testing.T) {
	text := protocolText(t)
	all := conversations(t)
	for _, c := range all {
		if !strings.Contains(text, "["+c.name+"](../testdata/conversations/"+c.name+".txt)") {
			t.Errorf("it does not name %s", c.name)
		}
	}
	if links := strings.Count(text, "](../testdata/conversations/"); links != len(all) {
		t.Errorf("it has %d links to %d conversations", links, len(all))
	}
	quotes := regexp.MustCompile("(?s)```text ([^\n]+)\n(.*?)```").FindAllStringSubmatch(text, -1)
	for _, quote := range quotes {
		data, err := os.ReadFile(filepath.Join("testdata", "conversations", quote[1]+".txt"))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(data), quote[2]) {
			t.Errorf("%s does not have\n%s", quote[1], quote[2])
		}
	}
	if frames := strings.Count(text, `{"msg_id": "$`); len(quotes) < 5 || frames < 10 {
		t.Errorf("there are %d quotes with %d frames", len(quotes), frames)
	}
}
