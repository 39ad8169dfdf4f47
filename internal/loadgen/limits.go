package loadgen

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What a run may ask for at most. More is a slip of the keyboard: it would end
// for want of memory or ports, and not with figures.
const (
	// MaxClients is as many connections as there are ports for one server.
	MaxClients = 1<<16 - 1
	// MaxSize is the most bytes of a message, far above what servers take.
	MaxSize = 64 << 20
	// MaxUnderWay is the most bytes of all messages of all clients at a time:
	// somebody has to hold them.
	MaxUnderWay = 1 << 29
	// MaxTime is the longest warm-up, and the longest measured time.
	MaxTime = 7 * 24 * time.Hour
	// MaxAhead is how many messages may be sent ahead of their receipts.
	MaxAhead = 1000
	// MaxMessages is how many messages QueueLoad may send.
	MaxMessages = 1 << 30
)

// Validate reports what makes no sense. The loads do so, too, before anything is
// connected.
func (c Config) Validate() error {
	// No client has a longer id than this.
	longest := c.clientID(2*MaxClients - 1)
	least := sizeOf(longest, longest, strings.Repeat("0", stampSize), c.Receipts)
	switch {
	case c.Clients < 1 || c.Clients > MaxClients:
		return fmt.Errorf("there must be at least 1 and at most %d clients", MaxClients)
	case c.Size < least || c.Size > MaxSize:
		return fmt.Errorf("a message has at least %d bytes here, and at most %d", least, MaxSize)
	case c.InFlight < 1:
		return errors.New("at least 1 message of a sender must be in flight")
	case c.InFlight > MaxUnderWay/c.Clients/c.Size: // which does not overflow
		return fmt.Errorf("clients × in flight × size must be at most %d bytes", MaxUnderWay)
	case c.Receipts != "" && c.Receipts != "accepted" && c.Receipts != "written" && c.Receipts != "handled":
		return fmt.Errorf("there are no receipts of %.20q; there are accepted, written and handled", c.Receipts)
	case c.Receipts != "" && c.InFlight > MaxAhead:
		return fmt.Errorf("with receipts at most %d messages of a sender may be in flight", MaxAhead)
	case c.WarmUp < 0 || c.WarmUp > MaxTime || c.Duration <= 0 || c.Duration > MaxTime:
		return fmt.Errorf("the measured time must be more than 0, and neither it nor the warm-up less than 0 or more than %v", MaxTime)
	}
	return nil
}

// ValidateQueue reports what makes no sense in QueueLoad, beside that.
func (c Config) ValidateQueue() error {
	switch {
	case c.Receipts != "" && c.Receipts != "accepted":
		return fmt.Errorf("no message is %s while its receiver is away", c.Receipts)
	case c.Messages < c.Clients || c.Messages > MaxMessages:
		return fmt.Errorf("each client must get one message at least, and all at most %d", MaxMessages)
	}
	return nil
}

// clientID is the id of one of the clients.
func (c Config) clientID(i int) string { return fmt.Sprintf("%s_%d", c.Name, i) }
