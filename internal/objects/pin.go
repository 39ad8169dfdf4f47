package objects

import (
	"errors"
	"io/fs"
)

// pin keeps the blobs of an object that is being read. An object's blobs are
// made and removed together, and belong to no other one, so that the name of
// the first stands for all.
type pin struct {
	readers int
	removed []Blob // what the last reader has to remove
}

// pinned looks up an object and pins its blobs. No removal comes between: see
// removeBlobs.
func (s *Store) pinned(key string) (Object, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	o, err := s.Stat(key)
	if err != nil {
		return o, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pins[o.Blobs[0].Name]
	if p == nil {
		p = new(pin)
		s.pins[o.Blobs[0].Name] = p
	}
	p.readers++
	return o, nil
}

// unpin ends what pinned began.
func (s *Store) unpin(blobs []Blob) {
	name := blobs[0].Name
	s.mu.Lock()
	p := s.pins[name]
	p.readers--
	last := p.readers == 0
	if last {
		delete(s.pins, name)
	}
	s.mu.Unlock()
	if last {
		s.deleteFiles(p.removed)
	}
}

// removeBlobs deletes the blobs of one object or part, to which nothing in the
// index points any more, and gives back their part of the quota: now, or when
// the last reader has closed.
func (s *Store) removeBlobs(blobs []Blob) {
	if len(blobs) == 0 {
		return
	}
	// Whoever has found the object in the index before it was taken out has
	// pinned it when this lock is had, and nobody can find it after.
	s.gate.Lock()
	s.mu.Lock()
	p := s.pins[blobs[0].Name]
	if p != nil {
		p.removed = blobs
	}
	s.mu.Unlock()
	s.gate.Unlock()
	if p == nil {
		s.deleteFiles(blobs)
	}
}

// deleteFiles deletes blobs. One that cannot be deleted takes its room until the
// next start, which finds it to be an orphan.
func (s *Store) deleteFiles(blobs []Blob) {
	for _, b := range blobs {
		if err := s.root.Remove(blobDir + "/" + b.Name); err == nil || errors.Is(err, fs.ErrNotExist) {
			_ = s.reserve(-b.Size)
		}
	}
}
