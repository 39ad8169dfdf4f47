module github.com/crosscomm/crosscomm-go/bench

go 1.26.0

replace github.com/crosscomm/crosscomm-go => ../

require (
	github.com/crosscomm/crosscomm-go v0.0.0
	github.com/gorilla/websocket v1.5.3
	github.com/lxzan/gws v1.8.9
	github.com/olahol/melody v1.1.4
	golang.org/x/sys v0.48.0
)

require (
	github.com/dolthub/maphash v0.1.0 // indirect
	github.com/klauspost/compress v1.17.9 // indirect
)
