package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A wallClock is that of one process, which runs as it is but for the wall clock: that
// jumps while the process runs, and the monotonic clock does not. The machine's clock
// stays as it is.
//
// The kernel asks us each time that the process asks for the time of day: a seccomp
// filter says so. Programs do not ask the kernel, though, but the vDSO, a piece of
// code that it lends them; the process is stopped at its start, and told that there is
// none.
type wallClock struct {
	ahead atomic.Int64  // of the machine's clock, in ns
	asked atomic.Int64  // how often the process has looked
	ended chan struct{} // closed when it has
}

// jump makes the wall clock step.
func (w *wallClock) jump(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *wallClock) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// What the program that a role "clock" becomes is told: its path comes as the first
// argument.
const clockRole = "clock"

func init() {
	roles[clockRole] = becomeWatched
	if os.Getenv(asChild) == clockRole {
		runtime.LockOSThread() // a filter is a thread's, and only the first one is traced
	}
}

// becomeWatched installs the filter, gives what listens to it to the parent, by the
// socket that is file 3, and becomes the program.
func becomeWatched() int {
	const (
		load     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret      = unix.BPF_RET | unix.BPF_K
		nr, arg0 = 0, 16 // where they lie in seccomp_data
	)
	filter := []unix.SockFilter{
		{Code: load, K: nr},
		{Code: equal, K: unix.SYS_CLOCK_GETTIME, Jf: 3},
		{Code: load, K: arg0},
		{Code: equal, K: unix.CLOCK_REALTIME, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
		if err = unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(fd)), nil, 0); errno != 0 {
			err = errno
		}
	}
	if err == nil {
		unix.CloseOnExec(3)
		err = syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// startWatched starts a program with a wall clock of its own. It is killed at the end of
// the test.
func startWatched(t *testing.T, stdout *os.File, path string, args ...string) (*exec.Cmd, *wallClock, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer unix.Close(pair[0])
	defer theirs.Close()
	cmd := exec.Command(os.Args[0], append([]string{path}, args...)...)
	cmd.Env = append(os.Environ(), asChild+"="+clockRole)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = t.TempDir(), stdout, os.Stderr, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	runtime.LockOSThread() // it traces
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	w := &wallClock{ended: make(chan struct{})}
	listener := -1
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if listener >= 0 {
			<-w.ended
		}
	})
	for execs := 0; execs < 2; { // the test binary, and the program
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil {
			return nil, nil, err
		}
		signal := 0
		switch {
		case status.Exited() || status.Signaled():
			return nil, nil, errors.New("no process can be watched here")
		case status.StopSignal() == syscall.SIGTRAP:
			if execs++; execs == 2 {
				continue
			}
		default:
			signal = int(status.StopSignal())
		}
		if err := syscall.PtraceCont(cmd.Process.Pid, signal); err != nil {
			return nil, nil, err
		}
	}
	if err := hideVDSO(cmd.Process.Pid); err != nil {
		return nil, nil, err
	}
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), control, 0)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, nil, err
	}
	listener = fds[0]
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", cmd.Process.Pid), os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	go w.answer(listener, memory)
	return cmd, w, syscall.PtraceDetach(cmd.Process.Pid)
}

// hideVDSO takes the vDSO out of what the kernel has put on the stack of a program that
// is about to begin: the arguments, the environment, and pairs of numbers.
func hideVDSO(pid int) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	const vdso, ignore = 33, 1 // AT_SYSINFO_EHDR, AT_IGNORE
	var word [8]byte
	peek := func(at uintptr) uint64 {
		_, _ = syscall.PtracePeekData(pid, at, word[:])
		return *(*uint64)(unsafe.Pointer(&word))
	}
	at := uintptr(regs.Rsp)
	at += 8 * uintptr(peek(at)+2)
	for peek(at) != 0 {
		at += 8
	}
	for at += 8; peek(at) != 0; at += 16 {
		if peek(at) == vdso {
			_, err := syscall.PtracePokeData(pid, at, []byte{ignore, 0, 0, 0, 0, 0, 0, 0})
			return err
		}
	}
	return errors.New("there is no vDSO")
}

// answer tells the process the time of day, until it has ended.
func (w *wallClock) answer(listener int, memory *os.File) {
	defer close(w.ended)
	defer unix.Close(listener)
	defer memory.Close()
	for {
		polled := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(polled, -1); err != nil && !errors.Is(err, unix.EINTR) || polled[0].Revents&unix.POLLHUP != 0 {
			return
		}
		var ask struct { // seccomp_notif
			id         uint64
			pid, flags uint32
			nr         int32
			arch       uint32
			ip         uint64
			args       [6]uint64
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&ask))); errno != 0 {
			continue // it has ended meanwhile, or was interrupted
		}
		now := unix.NsecToTimespec(w.now().UnixNano())
		reply := struct { // seccomp_notif_resp
			id    uint64
			val   int64
			err   int32
			flags uint32
		}{id: ask.id}
		if _, err := memory.WriteAt((*[unsafe.Sizeof(now)]byte)(unsafe.Pointer(&now))[:], int64(ask.args[1])); err != nil {
			reply.err = -int32(unix.EFAULT)
		}
		w.asked.Add(1)
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&reply)))
	}
}
