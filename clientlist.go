package crosscomm

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// ClientList is the answer to [Service.ListClients].
type ClientList struct {
	Clients        []ClientInfo
	TotalCount     int // as the server counts them: of the clients listed
	OnlyShowOnline bool
}

// ClientInfo is what a server knows of a client.
type ClientInfo struct {
	ClientID      string
	Online        bool
	LastHeartbeat time.Time // the last sign of life
	LoginTime     time.Time // zero if it has not logged in since the server started
}

// wireClientList and wireClient are the JSON of the original.
type wireClientList struct {
	Clients        []wireClient `json:"clients"`
	TotalCount     int          `json:"total_count"`
	OnlyShowOnline bool         `json:"only_show_online"`
}

type wireClient struct {
	ClientID      string   `json:"client_id"`
	Status        string   `json:"status"`
	LastHeartbeat float64  `json:"last_heartbeat"` // seconds since 1970
	LoginTime     *float64 `json:"login_time"`     // likewise, or null
}

func (c ClientInfo) wire() wireClient {
	w := wireClient{ClientID: c.ClientID, Status: statusOffline, LastHeartbeat: seconds(c.LastHeartbeat)}
	if c.Online {
		w.Status = statusOnline
	}
	if !c.LoginTime.IsZero() {
		login := seconds(c.LoginTime)
		w.LoginTime = &login
	}
	return w
}

// MarshalJSON returns the original's JSON of a client: client_id, status
// ("online" or "offline"), last_heartbeat and login_time in seconds, the
// latter null if not known.
func (c ClientInfo) MarshalJSON() ([]byte, error) { return json.Marshal(c.wire()) }

// parseClientList reads the content of a list_clients_response. The original
// sends a string of JSON; an object is understood too.
func parseClientList(m *Message) (*ClientList, error) {
	var wire wireClientList
	if err := unmarshal([]byte(m.Text()), &wire); err != nil {
		return nil, fmt.Errorf("the server's list of clients: %w", err)
	}
	list := &ClientList{TotalCount: wire.TotalCount, OnlyShowOnline: wire.OnlyShowOnline}
	for _, w := range wire.Clients {
		c := ClientInfo{ClientID: w.ClientID, Online: w.Status == statusOnline, LastHeartbeat: fromSeconds(w.LastHeartbeat)}
		if w.LoginTime != nil && !math.IsNaN(*w.LoginTime) {
			c.LoginTime = fromSeconds(*w.LoginTime)
		}
		list.Clients = append(list.Clients, c)
	}
	return list, nil
}
