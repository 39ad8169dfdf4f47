package crosscomm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/crosscomm/crosscomm-go/internal/inprocess"
	"github.com/crosscomm/crosscomm-go/ossserver"
)

// reservedPrefix is the part of a server's paths that is kept for pages of its
// own. No bucket can be named so.
const reservedPrefix = "/_crosscomm/"

// typeObjectStore is sent by our server to our client, on a connection that
// agreed on it, before the answer to the login: where files go, and a key pair
// of the client's own. Listeners never see it.
const typeObjectStore MsgType = "object_store"

// objectStoreOffer is its content. It is empty if the server has no endpoint.
type objectStoreOffer struct {
	Bucket          string `json:"bucket,omitempty"`
	AccessKeyID     string `json:"access_key_id,omitempty"`
	AccessKeySecret string `json:"access_key_secret,omitempty"`
	// Elsewhere says that the server's own files are at a store of its
	// settings, where the clients' should be, too.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// endpoint is a server's own OSS endpoint, during a run of the server.
type endpoint struct {
	keys   *accessKeys
	server *ossserver.Server
	store  *ossStore // the server's own way to it
}

// openEndpoint opens the endpoint in Config.DataDir, or returns nil if there
// shall be none.
func (srv *server) openEndpoint(run *serverRun) (*endpoint, error) {
	cfg := srv.s.cfg
	if cfg.DataDir == "" {
		return nil, nil
	}
	keys, err := srv.accessKeys()
	if err != nil {
		return nil, err
	}
	e := &endpoint{keys: keys}
	keys.onVoided(srv.renewAccess)
	e.server, err = ossserver.New(ossserver.Config{
		Dir: filepath.Join(cfg.DataDir, "objects"), Bucket: bucketName, Secret: func(id string) (string, bool) { return srv.secretOf(run, keys, id) }, Allow: keys.allow,
		MaxObject: cfg.MaxFileSize, Quota: cfg.Quota, ObjectTTL: cfg.KeepFiles, Logger: srv.s.log,
	})
	if err != nil {
		return nil, err
	}
	id, secret := keys.all()
	own := OSSConfig{Endpoint: "http://127.0.0.1", BucketName: bucketName, AccessKeyID: id, AccessKeySecret: secret}
	e.store, err = newOSSStore(own, inprocess.Transport{Handler: e.server})
	if err != nil {
		return nil, errors.Join(err, e.server.Close())
	}
	return e, nil
}

// secretOf is ossserver.Config.Secret. Where tokens are asked for, the key of a client
// that could not log in is none, unless it is logged in: it may have a certificate.
func (srv *server) secretOf(run *serverRun, keys *accessKeys, id string) (string, bool) {
	client, ok := keys.clientOf(id)
	if ok && client != "" && run.tokens != nil && !run.tokens.mayLogIn(client) && srv.hub.peerOf(client) == nil {
		return "", false
	}
	return keys.secret(id)
}

// accessKeys returns the keys in Config.DataDir.
func (srv *server) accessKeys() (*accessKeys, error) {
	srv.keysMu.Lock()
	defer srv.keysMu.Unlock()
	if srv.keys == nil {
		keys, err := openAccessKeys(srv.s.cfg.DataDir)
		if err != nil {
			return nil, err
		}
		srv.keys = keys
	}
	return srv.keys, nil
}

// FileAccess returns the settings with which Python, Java and other peers use
// the endpoint of a server that has a [Config.DataDir]; addr is the HOST:PORT
// at which they reach the server, or "https://HOST:PORT", if it, or a proxy in
// front of it, speaks TLS there. The key may read and write everything. The server
// need not run; the key is made at the first call or start, whichever comes first.
//
// On a client it returns [ErrRole], and without a DataDir [ErrNoObjectStore].
func (s *Service) FileAccess(addr string) (OSSConfig, error) {
	if s.server == nil {
		return OSSConfig{}, wrongRole("FileAccess", Server)
	}
	if s.cfg.DataDir == "" {
		return OSSConfig{}, fmt.Errorf("crosscomm: FileAccess: %w: Config.DataDir is empty", ErrNoObjectStore)
	}
	keys, err := s.server.accessKeys()
	if err != nil {
		return OSSConfig{}, fmt.Errorf("crosscomm: FileAccess: %w", err)
	}
	id, secret := keys.all()
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	return OSSConfig{Endpoint: addr, BucketName: bucketName, AccessKeyID: id, AccessKeySecret: secret}, nil
}

// RevokeFileAccess makes the access keys void that a server's endpoint has
// given to the client so far, for whoever has got hold of one; what is under way
// with them is cut. The client itself is given another one, at once if it is
// online. A server that is another program on the same directory sees it when a
// key is next used, a second later at most. The errors are those of [Service.FileAccess], and that of the file
// that keeps the keys; the keys are void then, but only as long as this program
// runs; and [ErrReceiver] for what cannot be a client's id.
func (s *Service) RevokeFileAccess(clientID string) error {
	if s.server == nil {
		return wrongRole("RevokeFileAccess", Server)
	}
	if s.cfg.DataDir == "" {
		return fmt.Errorf("crosscomm: RevokeFileAccess: %w: Config.DataDir is empty", ErrNoObjectStore)
	}
	if err := checkID(clientID); err != nil {
		return fmt.Errorf("crosscomm: RevokeFileAccess: %w: %w", ErrReceiver, err)
	}
	keys, err := s.server.accessKeys()
	if err == nil {
		id, _ := keys.ofClient(clientID)
		err = keys.revoke(clientID)
		s.server.renewAccess(clientID, id)
	}
	if err != nil {
		return fmt.Errorf("crosscomm: RevokeFileAccess: %w", err)
	}
	return nil
}

// renewAccess cuts what is under way with a key that has become void, and gives
// the client, if it is online, the key that it has now.
func (srv *server) renewAccess(clientID, void string) {
	srv.mu.Lock()
	run := srv.run
	srv.mu.Unlock()
	if run == nil || run.endpoint == nil {
		return
	}
	run.endpoint.server.Disconnect(void)
	if p := srv.hub.peerOf(clientID); p != nil && p.agreed {
		srv.tell(p, srv.offerFrame(clientID, srv.offer(run, clientID)))
	}
}

// offers reports whether clients are given keys to the server's endpoint. If
// the configuration names another store, that is where everybody's files are.
func (srv *server) offers(run *serverRun) bool {
	return run.endpoint != nil && srv.s.cfg.ObjectStore == nil && !srv.usesCloud()
}

// usesCloud reports whether OSS_* names another store than the server's own
// endpoint, whose settings may be in the same .env for the sake of peers.
func (srv *server) usesCloud() bool {
	oss := srv.s.cfg.OSS
	if oss.AccessKeyID == "" && oss.Endpoint == "" {
		return false
	}
	if srv.s.cfg.DataDir == "" {
		return true
	}
	keys, err := srv.accessKeys()
	if err != nil {
		return true
	}
	id, _ := keys.all()
	return id != oss.AccessKeyID
}

// offer returns what a client of ours is told of the endpoint.
func (srv *server) offer(run *serverRun, clientID string) objectStoreOffer {
	if !srv.offers(run) {
		return objectStoreOffer{Elsewhere: srv.s.cfg.ObjectStore != nil || srv.usesCloud()}
	}
	id, secret := run.endpoint.keys.ofClient(clientID)
	return objectStoreOffer{Bucket: bucketName, AccessKeyID: id, AccessKeySecret: secret}
}

func (srv *server) offerFrame(clientID string, o objectStoreOffer) []byte {
	content, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings can always be written
	}
	return srv.s.newFrame(typeObjectStore, clientID, content)
}

// isForEndpoint reports whether a request is one of an OSS client. All of these
// are signed, and most name the bucket in the path; a person with a browser does
// neither.
func isForEndpoint(r *http.Request) bool {
	q := r.URL.Query()
	signed := strings.HasPrefix(r.Header.Get("Authorization"), "OSS") || q.Has("Signature") || q.Has("x-oss-signature")
	return signed || strings.HasPrefix(r.URL.EscapedPath()+"/", "/"+bucketName+"/")
}

// serveEndpoint serves a request of an OSS client until it is done, or the
// server stops.
func (srv *server) serveEndpoint(run *serverRun, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(run.ctx, func() { cancel(errStopped) })()
	run.endpoint.server.ServeHTTP(w, r.WithContext(ctx))
}

// offered takes the server's offer. One that comes before the answer to the
// login counts from the login on, as does that there was none.
func (sess *session) offered(content []byte) {
	var o objectStoreOffer
	if err := json.Unmarshal(content, &o); err != nil {
		sess.client.s.log.Warn("the server's offer of an object store is not understood", "error", err)
		return
	}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	sess.offer = &o
	if sess.accepted {
		sess.client.useOffer(&o)
	}
}

// useOffer makes a store of the offer, unless it is the one that there is.
func (c *client) useOffer(o *objectStoreOffer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o != nil && c.offer != nil && *c.offer == *o {
		return // what is under way goes on
	}
	if c.store != nil {
		// What is under way there goes on, and leaves idle connections.
		c.replaced = append(c.replaced, c.store)
	}
	c.offer, c.store = o, nil
	if o == nil || o.AccessKeyID == "" {
		return
	}
	u, err := url.Parse(c.s.cfg.URL)
	if err != nil {
		return // it was checked
	}
	scheme := "http"
	if u.Scheme == "wss" {
		scheme = "https"
	}
	store, err := newOSSStore(OSSConfig{
		Endpoint: scheme + "://" + u.Host, BucketName: o.Bucket, AccessKeyID: o.AccessKeyID, AccessKeySecret: o.AccessKeySecret,
	}, newTransport(c.open, c.tlsConfig()))
	if err != nil {
		c.s.log.Warn("the server's object store cannot be used", "error", err)
		return
	}
	c.store = store
}

// closeStores gives up the idle connections to the stores that were offered. No
// transfer may be under way.
func (c *client) closeStores() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, store := range c.replaced {
		store.close()
	}
	c.replaced = nil
	if c.store != nil {
		c.store.close()
	}
}

// storeOfServer returns the store that the server has offered.
func (c *client) storeOfServer(ctx context.Context) (ObjectStore, error) {
	// Not before the login: only then it is known.
	if _, err := c.session(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	const settings = "OSS_ENDPOINT, OSS_BUCKET_NAME, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET are not set"
	switch {
	case c.store != nil:
		return c.store, nil
	case c.offer == nil:
		return nil, fmt.Errorf("%w: %s, and this server gives none", ErrNoObjectStore, settings)
	case c.offer.Elsewhere:
		return nil, fmt.Errorf("%w: the server's files are at a store of its settings, but here %s", ErrNoObjectStore, settings)
	}
	return nil, fmt.Errorf("%w: the server has none (start it with a data directory), and %s", ErrNoObjectStore, settings)
}

// storeOfServer returns the server's own store.
func (srv *server) storeOfServer() (ObjectStore, error) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	switch {
	case srv.s.cfg.DataDir == "":
		return nil, fmt.Errorf("%w: the server needs a data directory (Config.DataDir), or OSS_ENDPOINT, OSS_BUCKET_NAME, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET", ErrNoObjectStore)
	case srv.run == nil || srv.run.endpoint == nil:
		return nil, fmt.Errorf("%w: the server does not run", ErrNotConnected)
	}
	return srv.run.endpoint.store, nil
}

// objectStore returns where files go: the application's store, or that of
// OSS_*, or the server's endpoint.
func (s *Service) objectStore(ctx context.Context) (ObjectStore, error) {
	if s.cfg.ObjectStore != nil {
		return s.cfg.ObjectStore, nil
	}
	o := s.cfg.OSS
	if o.Endpoint+o.BucketName+o.AccessKeyID+o.AccessKeySecret != "" && (s.client != nil || s.server.usesCloud()) {
		return s.configuredStore()
	}
	if s.client != nil {
		return s.client.storeOfServer(ctx)
	}
	return s.server.storeOfServer()
}

// configuredStore returns the store of Config.OSS, which is made once.
func (s *Service) configuredStore() (ObjectStore, error) {
	var missing []string
	for _, f := range []struct{ name, value string }{
		{"OSS_ENDPOINT", s.cfg.OSS.Endpoint}, {"OSS_BUCKET_NAME", s.cfg.OSS.BucketName},
		{"OSS_ACCESS_KEY_ID", s.cfg.OSS.AccessKeyID}, {"OSS_ACCESS_KEY_SECRET", s.cfg.OSS.AccessKeySecret},
	} {
		if f.value == "" {
			missing = append(missing, f.name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: %s not set, others of the OSS settings are", ErrNoObjectStore, strings.Join(missing, ", "))
	}
	s.ossMu.Lock()
	defer s.ossMu.Unlock()
	if s.oss == nil {
		store, err := newOSSStore(s.cfg.OSS, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoObjectStore, err)
		}
		s.oss = store
	}
	return s.oss, nil
}
