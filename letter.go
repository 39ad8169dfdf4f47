package crosscomm

import (
	"bytes"
	"sync"

	"github.com/crosscomm/crosscomm-go/internal/dedup"
	"github.com/crosscomm/crosscomm-go/internal/frame"
)

// letter is a message on its way to one client, of which the server knows how far
// it has come. Its mailbox guards what changes.
type letter struct {
	data []byte // the frame, with headers that have it tracked; nil when it is not needed any more
	size int    // of the data
	sender
	keep bool // whether it may wait on disk

	lent bool   // whether data and msgID are another one's, who takes them back when put returns
	room []byte // where they are when they are the letter's own; used again

	seq uint64 // its place among the letters for the client
	at  int64  // of hub.now, when it was put into the mailbox

	sent    bool // whether it is on its way on a connection
	returns bool // whether it is on its way to the disk in front of what is there
	saving  bool // whether it is on disk, or on its way there
	saved   bool // whether it is on disk
	read    bool // whether the receiver has it
	done    bool // whether the receiver is done with it
	handled bool // and has handled it
	told    bool // whether the sender has been told what it asked for
}

// isSpent reports whether all is done for a letter with its being sent: then it is no
// matter what becomes of it.
func (l *letter) isSpent() bool { return !l.keep && (l.told || l.want == Sent) }

// sentLetter is the place of a letter that was sent on a connection, until it is reported.
type sentLetter struct {
	letter *letter // nil for one that was spent
	number uint64  // on the connection
	cost   int     // of the letter
	done   bool    // whether the receiver is done with it
}

// letters are those that nobody needs any more. What is kept of most letters is short,
// and gone within milliseconds: the collector would be at work all the time.
var letters = sync.Pool{New: func() any { return new(letter) }}

// mostRoom is how large the room of a letter may be that is used again.
const mostRoom = 4 << 10

// newLetter makes a letter whose data is not changed any more.
func newLetter(s sender, data []byte, keep bool) *letter {
	return &letter{sender: s, data: data, size: len(data), keep: keep}
}

// lend makes a letter of a frame whose data and msgID the caller has.
func lend(s sender, f frame.Frame, data []byte, keep bool) *letter {
	l := letters.Get().(*letter)
	*l = letter{sender: s, data: data, size: len(data), keep: keep, lent: true, room: l.room}
	l.msgID = f.MsgID
	return l
}

// own has the letter keep what it still needs of what it was lent or made with.
func (l *letter) own(withData bool) {
	if !l.lent {
		if !withData {
			l.data = nil
		}
		return
	}
	l.lent = false
	l.room = l.room[:0]
	if !l.told {
		l.room = append(l.room, l.msgID...)
	}
	id := len(l.room)
	if withData {
		l.room = append(l.room, l.data...)
	}
	l.msgID, l.data = l.room[:id:id], l.room[id:]
}

// free is called when nobody has the letter any more. Not all letters have to be.
func (l *letter) free() {
	*l = letter{room: l.room[:0]}
	if cap(l.room) > mostRoom {
		l.room = nil
	}
	letters.Put(l)
}

// sender is who has sent a letter, and wants to be told how far it comes.
type sender struct {
	from  *member // nil for this server
	msgID []byte  // JSON text
	key   dedup.Key
	place uint64     // of the key in the sender's outgoing; 0 if it is not known
	want  Stage      // Sent for nothing
	group *broadcast // that the letter is one of; nil for none
}

// reached returns how far the letter has come. What is to be told must be true
// whatever is killed then: nothing is before it is safe. A letter that cannot be kept
// is as safe as it will ever be.
func (l *letter) reached() Stage {
	switch {
	case l.handled:
		return Handled
	case l.done: // nothing can be lost any more
		return Written
	case l.keep && !l.saved:
		return Sent
	case l.read:
		return Written
	}
	return Accepted
}

// cost is what the letter counts for in memory.
func (l *letter) cost() int { return l.size + letterOverhead }

// letterOverhead is what one takes in memory besides its data, roughly.
const letterOverhead = 256

// meta is what is on disk of who has sent a letter: what he wants to know, who he is
// and what he calls it. It is empty if that is nothing.
func (s *sender) meta() []byte {
	if s.want <= Accepted || s.group != nil { // it is told when it is on disk
		return nil
	}
	from := ""
	if s.from != nil {
		from = s.from.id
	}
	return append(append(append([]byte{byte(s.want)}, from...), 0), s.msgID...)
}

// parseMeta is the opposite of meta.
func parseMeta(meta []byte) (from string, msgID []byte, want Stage, ok bool) {
	if len(meta) == 0 {
		return "", nil, Sent, false
	}
	id, msgID, ok := bytes.Cut(meta[1:], []byte{0}) // no id has that
	want = Stage(meta[0])
	return string(id), msgID, want, ok && want.check() == nil
}
