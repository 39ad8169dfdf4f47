package loadgen_test

import (
	"net/http"

	"github.com/gorilla/websocket"
)

// handler serves WebSocket connections.
func handler(serve func(*websocket.Conn), upgrader *websocket.Upgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		serve(conn)
	}
}
