package crosscomm

// MsgType is the kind of a message, as it stands on the wire. Python calls it
// CommMsgType.
type MsgType string

// The message types of the original. The first seven are for applications;
// the others are the protocol's own, and [Service.SendMessage] refuses them.
const (
	TypeText   MsgType = "text"   // content: a string
	TypeJSON   MsgType = "json"   // content: a string that is a JSON document
	TypeDict   MsgType = "dict"   // content: any JSON value
	TypeBytes  MsgType = "bytes"  // content: standard base64
	TypeImage  MsgType = "image"  // content: the sender's path; the file is in object storage
	TypeFile   MsgType = "file"   // likewise
	TypeFolder MsgType = "folder" // likewise

	TypeHeartbeat           MsgType = "heartbeat"             // client to server, every interval
	TypeLogin               MsgType = "login"                 // client to server, first of all
	TypeLogout              MsgType = "logout"                // client to server
	TypeListClients         MsgType = "list_clients"          // client to server
	TypeListClientsResponse MsgType = "list_clients_response" // server to client
	TypeLoginResponse       MsgType = "login_response"        // server to client
)

// msgTypeOf returns the type of that name. It makes no new string of a known one.
func msgTypeOf(name []byte) MsgType {
	switch string(name) { // compares without making that string
	case string(TypeText):
		return TypeText
	case string(TypeJSON):
		return TypeJSON
	case string(TypeDict):
		return TypeDict
	case string(TypeBytes):
		return TypeBytes
	case string(TypeImage):
		return TypeImage
	case string(TypeFile):
		return TypeFile
	case string(TypeFolder):
		return TypeFolder
	case string(TypeHeartbeat):
		return TypeHeartbeat
	case string(TypeLogin):
		return TypeLogin
	case string(TypeLogout):
		return TypeLogout
	case string(TypeListClients):
		return TypeListClients
	case string(TypeListClientsResponse):
		return TypeListClientsResponse
	case string(TypeLoginResponse):
		return TypeLoginResponse
	}
	return MsgType(name)
}

// Valid reports whether t is one of the thirteen types.
func (t MsgType) Valid() bool {
	switch t {
	case TypeHeartbeat, TypeLogin, TypeLogout, TypeListClients, TypeListClientsResponse, TypeLoginResponse:
		return true
	}
	return t.application()
}

// application reports whether t is for applications to send.
func (t MsgType) application() bool {
	switch t {
	case TypeText, TypeJSON, TypeDict, TypeBytes:
		return true
	}
	return t.file()
}

// file reports whether the content of t travels through object storage.
func (t MsgType) file() bool {
	return t == TypeImage || t == TypeFile || t == TypeFolder
}
