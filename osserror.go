package crosscomm

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// storeError is a refusal by an OSS endpoint.
type storeError struct {
	status  int
	code    string
	message string
}

func (e *storeError) Error() string {
	kind := "object store"
	if kinds := e.Unwrap(); len(kinds) > 0 {
		kind = kinds[0].Error()
	}
	return fmt.Sprintf("%s (%d %s: %s)", kind, e.status, e.code, e.message)
}

// Unwrap returns what stands for the error in this package's terms, if anything.
func (e *storeError) Unwrap() []error {
	switch {
	case e.code == "NoSuchKey":
		return []error{fs.ErrNotExist}
	case e.code == "EntityTooLarge":
		return []error{ErrTooLarge}
	case e.status == http.StatusInsufficientStorage:
		return []error{ErrNoRoom}
	case e.status == http.StatusForbidden:
		return []error{ErrAccess, fs.ErrPermission}
	}
	return nil
}

// explainOSS makes a *storeError of what the SDK tells of a refusal.
func explainOSS(err error) error {
	var service oss.ServiceError
	var unexpected oss.UnexpectedStatusCodeError
	switch {
	case errors.As(err, &service):
		return &storeError{service.StatusCode, service.Code, service.Message}
	case errors.As(err, &unexpected):
		return &storeError{unexpected.Got(), http.StatusText(unexpected.Got()), unexpected.Error()}
	}
	return err
}

// localError is an error of this machine's files, not of the store.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// isFinal reports whether the same would fail in the same way again, also after
// some time. Of an error of an application's store that is not known.
func isFinal(err error) bool {
	var local *localError
	var store *storeError
	switch {
	case errors.As(err, &local):
		return true
	case !errors.As(err, &store):
		return false
	}
	switch store.code {
	case "RequestTimeout", "IncompleteBody": // 400, but it is the network's fault
		return false
	}
	switch store.status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

// isVoidKey reports whether the endpoint does not, or no longer, know the access
// key.
func isVoidKey(err error) bool {
	var store *storeError
	return errors.As(err, &store) && store.code == "InvalidAccessKeyId"
}

// isTransient reports whether trying again soon may help.
func isTransient(err error) bool {
	var dns *net.DNSError
	return !isFinal(err) && !(errors.As(err, &dns) && dns.IsNotFound)
}
