package crosscomm_test

import (
	"bytes"
	"context"
	"hash/crc64"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/crosscomm/crosscomm-go"
)

// memStore is an ObjectStore of an application's, for what no real one would
// do.
type memStore struct {
	beforeGet func(ctx context.Context, key string) error // may block or fail; nil for neither

	mu      sync.Mutex
	objects map[string][]byte
	modes   map[string]fs.FileMode
	gets    []string
	sizes   map[string]int64 // that List tells in place of the true ones
	listErr error            // what List fails with; nil if it does not
}

func newMemStore(objects map[string]string) *memStore {
	s := &memStore{objects: map[string][]byte{}, modes: map[string]fs.FileMode{}}
	for key, text := range objects {
		s.objects[key] = []byte(text)
	}
	return s
}

// untilReleased returns a beforeGet that blocks until the channel is closed.
func untilReleased(release <-chan struct{}) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *memStore) info(key string) (crosscomm.ObjectInfo, error) {
	data, ok := s.objects[key]
	if !ok {
		return crosscomm.ObjectInfo{}, &fs.PathError{Op: "get", Path: key, Err: fs.ErrNotExist}
	}
	sum := crc64.Checksum(data, crc64.MakeTable(crc64.ECMA))
	return crosscomm.ObjectInfo{Key: key, Size: int64(len(data)), CRC64: sum, HasCRC64: true, Mode: s.modes[key]}, nil
}

func (s *memStore) Put(_ context.Context, key string, r io.ReaderAt, opts crosscomm.PutOptions) error {
	data, err := io.ReadAll(io.NewSectionReader(r, 0, opts.Size))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key], s.modes[key] = data, opts.Mode
	return nil
}

func (s *memStore) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, crosscomm.ObjectInfo, error) {
	if s.beforeGet != nil {
		if err := s.beforeGet(ctx, key); err != nil {
			return nil, crosscomm.ObjectInfo{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets = append(s.gets, key)
	info, err := s.info(key)
	if err != nil {
		return nil, info, err
	}
	if offset > 0 && offset >= info.Size {
		return nil, info, crosscomm.ErrShorter
	}
	return io.NopCloser(bytes.NewReader(s.objects[key][offset:])), info, nil
}

func (s *memStore) Stat(_ context.Context, key string) (crosscomm.ObjectInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info(key)
}

func (s *memStore) List(_ context.Context, prefix string) iter.Seq2[crosscomm.ObjectInfo, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []crosscomm.ObjectInfo
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		size, lies := s.sizes[key]
		if !lies {
			size = int64(len(s.objects[key]))
		}
		if strings.HasPrefix(key, prefix) {
			list = append(list, crosscomm.ObjectInfo{Key: key, Size: size})
		}
	}
	return func(yield func(crosscomm.ObjectInfo, error) bool) {
		if s.listErr != nil {
			yield(crosscomm.ObjectInfo{}, s.listErr)
			return
		}
		for _, o := range list {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func (s *memStore) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return nil
}
