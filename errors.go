package crosscomm

import (
	"errors"

	"github.com/crosscomm/crosscomm-go/internal/link"
	"github.com/crosscomm/crosscomm-go/ossserver"
)

// The kinds of error, to be told apart with errors.Is. What a method returns
// wraps one of them and says more; each method tells which it may return.
var (
	// ErrRole: a method of the server role was called on a client, or the
	// other way round.
	ErrRole = errors.New("wrong role")

	// ErrNotConnected: the client has not logged in, has logged out, or has
	// lost the server for good; or the server was stopped. If a context ended
	// while the client was waiting for the link to come back, the error is this
	// one and the context's.
	ErrNotConnected = errors.New("not connected")

	// ErrLoginRejected: the server answered, and does not let this client in.
	// Trying again is of no use without changing something.
	ErrLoginRejected = errors.New("login rejected")

	// ErrReplaced: another client logged in with the same id. The server has
	// closed this one's link, and it does not reconnect: the two would take the
	// id from each other forever.
	ErrReplaced = errors.New("another client has logged in with this id")

	// ErrContent: the content does not fit the message type, or cannot be
	// written as JSON; or what a path names is of the wrong kind. Nothing was
	// sent.
	ErrContent = errors.New("bad content")

	// ErrTooLarge: the message is larger than the receiver, or the server, would
	// take, or a file larger than the store takes, and was not sent; or, from
	// ListClients, the answer exceeds Config.MaxMessageSize; or a download exceeds
	// Config.MaxDownloadSize.
	ErrTooLarge = errors.New("too large")

	// ErrReceiver: the id of the receiver is empty or malformed. Nothing was
	// sent.
	ErrReceiver = errors.New("bad receiver")

	// ErrOffline: the receiver is not there, and the message does not wait for it. With
	// a Stage, and for a Request, it may also have lost its link after it got the
	// message, or the server has stopped; otherwise nothing was sent.
	ErrOffline = errors.New("receiver is offline")

	// ErrUnknownClient: no client with this id has ever logged in at the server, and
	// none is expected there.
	ErrUnknownClient = errors.New("unknown client")

	// ErrQueueFull: there is no room for the message where it would have to wait for
	// its receiver, in memory or on disk.
	ErrQueueFull = errors.New("the receiver's queue is full")

	// ErrExpired: the message has waited for its receiver for longer than the server
	// keeps messages, or newer ones needed its room; or the time of a request was over
	// before its listener has returned. A receiver that lost its link before may have
	// handled it without its being known.
	ErrExpired = errors.New("the message has expired")

	// ErrNoListener: the receiver has the message, and none of its listeners is for
	// such a one; or a server has sent it to ServerID, which is itself.
	ErrNoListener = errors.New("no listener")

	// ErrListener: a listener of the receiver has returned an error, has panicked, or
	// has dropped the message.
	ErrListener = errors.New("the listener failed")

	// ErrNoReply: the receiver of a request has handled it without a reply, or cannot
	// reply, since it speaks only the original's wire.
	ErrNoReply = errors.New("no reply")

	// ErrNoRequest: the message is no request, or was replied to already.
	ErrNoRequest = errors.New("no request that could be replied to")

	// ErrNoReceipts: the server is one of the original's wire. The message was written
	// to it, and more it does not tell.
	ErrNoReceipts = errors.New("the server gives no receipts")

	// ErrNoPresence: the server does not tell who comes and goes. It is not one of
	// ours, or something in between lets no subprotocol pass.
	ErrNoPresence = errors.New("the server does not tell who comes and goes: it does not speak " + subprotocol)

	// ErrNoObjectStore: an image, a file or a folder cannot be sent or
	// downloaded, because there is no object store for it: no OSS settings, and
	// no server that has a data directory. The error says which settings are
	// missing. Nothing was sent.
	ErrNoObjectStore = errors.New("no object store")

	// ErrNoRoom: the store has no room left for a file, or the sender's quota is
	// used up. Nothing was sent.
	ErrNoRoom = errors.New("no room left in the object store")

	// ErrAccess: the store refuses the access key, or does not let it do that.
	// The error is also fs.ErrPermission.
	ErrAccess = errors.New("the object store denies access")

	// ErrInUse: another server has Config.DataDir open.
	ErrInUse = ossserver.ErrInUse

	// ErrShorter is what Get of an ObjectStore returns for an offset that the
	// object does not have: it has been replaced by a shorter one.
	ErrShorter = errors.New("the object is shorter now")
)

// CloseError tells that a connection was ended by a WebSocket close frame, and
// by which: its Code, its Reason, and ByPeer if the other side closed first.
// Find it with errors.As in what [Config.OnDown] and [Config.OnLogout] are
// given.
type CloseError = link.CloseError

// Close codes of our own that a server uses; the others are RFC 6455's.
const (
	CloseReplaced      = 4001 // a newer login has taken over the id
	CloseTooSlow       = 4002 // the client reads too slowly: its queue is full
	CloseLoginRejected = 4003 // the id cannot be used, or not with that token or certificate
	CloseLoginTimeout  = 4004 // no login came within Limits.LoginTimeout, or, after a logout, Config.HeartbeatTimeout
	CloseSilent        = 4005 // the client has timed out, and does not answer pings
)
