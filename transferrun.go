package crosscomm

import (
	"context"
	"fmt"
	"time"
)

// transfersTimeout is how long the end of a run waits for transfers, whose
// context has ended.
const transfersTimeout = time.Second

var errStopped = fmt.Errorf("%w: the server was stopped", ErrNotConnected)

// beginTransfer makes a transfer that the application wants a part of the
// Service's run, if there is one: Logout or Stop ends its context and waits for
// end, which must be called.
func (s *Service) beginTransfer(ctx context.Context) (transfer context.Context, end func()) {
	run, work, reason := s.runOfTransfers()
	if work == nil || !work.begin() {
		return ctx, s.closeIdle
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(run, func() { cancel(reason()) })
	return ctx, func() {
		unlink()
		cancel(nil)
		work.end()
	}
}

// runOfTransfers returns the context of the run, what counts its transfers, and
// what tells why it has ended. They are nil if there is no run.
func (s *Service) runOfTransfers() (run context.Context, work *activity, reason func() error) {
	if s.client != nil {
		if r := s.client.lastRun(); r != nil {
			return r.ctx, &r.work, r.whyOver
		}
		return nil, nil, nil
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if r := s.server.run; r != nil {
		return r.ctx, &r.transfers, func() error { return errStopped }
	}
	return nil, nil, nil
}

// endTransfers is called when the context of a run has ended.
func (s *Service) endTransfers(work *activity) {
	patience, cancel := context.WithTimeout(context.Background(), transfersTimeout)
	defer cancel()
	if !work.close(patience) {
		s.log.Error("an upload or a download still runs, although its context has ended; it is left behind. Does the ObjectStore, or Config.OnProgress, block?")
	}
	s.closeIdle()
}

// closeIdle gives up the idle connections to the store of Config.OSS.
func (s *Service) closeIdle() {
	s.ossMu.Lock()
	defer s.ossMu.Unlock()
	if s.oss != nil {
		s.oss.close()
	}
}
