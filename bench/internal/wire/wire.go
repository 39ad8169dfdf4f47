// Package wire is what the servers of the comparison know of the protocol: who
// a frame is from, whom it is for and what it is, and the answer to a login.
package wire

import (
	"encoding/json"
	"time"
)

// The types of frames that a server does more or less with than to relay them.
const (
	Login       = "login"
	Logout      = "logout"
	Heartbeat   = "heartbeat"
	ListClients = "list_clients" // is not answered here: no load asks
)

const (
	// All is the receiver of what goes to everybody but its sender.
	All = "all"
	// MaxMessage is how large a message may be. The libraries have limits of
	// their own, some of them below what the loads send.
	MaxMessage = 16 << 20
)

// Frame is what a relay must know of a frame; the rest only passes.
type Frame struct {
	From string `json:"from_client_id"`
	To   string `json:"to_client_id"`
	Type string `json:"msg_type"`
}

// Relayed reports whether a frame of this type goes on to other clients.
func (f Frame) Relayed() bool {
	switch f.Type {
	case "", Login, Logout, Heartbeat, ListClients:
		return false
	}
	return true
}

// Decode reads a frame as most programs would: with encoding/json.
func Decode(data []byte) (f Frame, err error) {
	err = json.Unmarshal(data, &f)
	return f, err
}

// LoginResponse is the server's answer to the login of the client id.
func LoginResponse(id string) []byte {
	now := time.Now()
	data, err := json.Marshal(struct {
		MsgID   string            `json:"msg_id"`
		From    string            `json:"from_client_id"`
		To      string            `json:"to_client_id"`
		Type    string            `json:"msg_type"`
		Content map[string]string `json:"content"`
		Time    float64           `json:"timestamp"`
		OSSKey  *string           `json:"oss_key"`
	}{
		MsgID: "server_" + now.Format("20060102T150405.000000"), From: "server", To: id, Type: "login_response",
		Content: map[string]string{"status": "success"}, Time: float64(now.UnixMicro()) / 1e6,
	})
	if err != nil {
		panic(err) // there is nothing in it that JSON does not have
	}
	return data
}
