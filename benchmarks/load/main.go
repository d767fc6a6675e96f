// Loads a registry as fast as it answers, checks every answer, and prints what it saw as JSON.
//
// A plan in JSON comes on stdin. With "requests" each connection sends them one after the other, or, with "sequence", all
// of them as one iteration. With "push" it pushes images whose digests were known before the clock started. With both, one
// iteration in "share" pushes.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type plan struct {
	Address       string    `json:"address"`
	Connections   int       `json:"connections"`
	Idle          int       `json:"idle"`       // further connections that only stay open
	Seconds       float64   `json:"seconds"`    // 0 means by iterations alone
	Iterations    int       `json:"iterations"` // of all connections together; 0 means by seconds alone
	Authorization string    `json:"authorization"`
	Requests      []request `json:"requests"`
	Sequence      bool      `json:"sequence"`
	Push          *push     `json:"push"`
	Share         int       `json:"share"` // beside requests, one iteration in so many pushes
}

type request struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Type   string `json:"type"` // of the body that is sent
	Body   string `json:"body"` // where there is one, "%d" in it and in the path becomes the number of the iteration
	Status int    `json:"status"`
	Length int64  `json:"length"` // of the body, or for HEAD of what it announces; -1 is any
	Digest string `json:"digest"` // compared for one iteration in 63, "" for none
}

type push struct {
	Repository string `json:"repository"` // "%d" becomes the number of the image
	Tag        string `json:"tag"`        // the same
	Size       int    `json:"size"`       // bytes of the one layer
	Chunk      int    `json:"chunk"`      // bytes of each PATCH; 0 is one PUT
	Same       bool   `json:"same"`       // every push is of the same image
}

type report struct {
	Iterations int64    `json:"iterations"`
	Bytes      int64    `json:"bytes"`
	Seconds    float64  `json:"seconds"`
	P50        float64  `json:"p50"`
	P99        float64  `json:"p99"`
	Errors     []string `json:"errors"`
}

// A run hands out iterations to connections and gathers what they saw.
type run struct {
	plan     plan
	images   []image
	next     atomic.Int64
	deadline time.Time
	mutex    sync.Mutex
	report   report
	took     []float64
}

// Returns the number of the next iteration, or -1 at the end.
func (r *run) take() int64 {
	number := r.next.Add(1) - 1
	late := r.plan.Seconds > 0 && time.Now().After(r.deadline)
	if late || r.plan.Iterations > 0 && number >= int64(r.plan.Iterations) {
		return -1
	}
	return number
}

func (r *run) connection() *connection {
	return &connection{address: r.plan.Address, authorization: r.plan.Authorization}
}

func (r *run) work() {
	c := r.connection()
	defer c.close()
	var took []float64
	var failed []string
	for iteration := r.take(); iteration >= 0; iteration = r.take() {
		began := time.Now()
		err := r.iterate(c, iteration)
		took = append(took, time.Since(began).Seconds())
		if err != nil {
			failed = append(failed, err.Error())
			c.close()
		}
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.took = append(r.took, took...)
	r.report.Errors = append(r.report.Errors, failed...)
	r.report.Bytes += c.bytes
}

func (r *run) iterate(c *connection, iteration int64) error {
	share := int64(max(r.plan.Share, 1))
	if r.plan.Push != nil && iteration%share == share-1 {
		return r.images[iteration/share%int64(len(r.images))].send(c, r.plan.Push, iteration)
	}
	requests := r.plan.Requests
	if !r.plan.Sequence {
		place := iteration % int64(len(requests))
		requests = requests[place : place+1]
	}
	for _, request := range requests {
		// An odd distance, so that each of two requests that take turns is compared.
		if err := c.request(request, iteration, iteration%63 == 0); err != nil {
			return err
		}
	}
	return nil
}

// Asks once on each of the idle connections, so that the server has taken them all.
func (r *run) askIdle(idle []*connection) {
	for _, c := range idle {
		if err := c.request(r.plan.Requests[0], 0, false); err != nil {
			r.report.Errors = append(r.report.Errors, "idle connection: "+err.Error())
		}
	}
}

// The content of a layer: a few bytes of its own, then one block again and again, so that gigabytes need no memory.
type layer struct {
	start, block []byte
	size         int
}

// Returns the bytes from one offset to another.
func (l layer) part(from, to int) net.Buffers {
	parts := net.Buffers{}
	for from < to {
		source, at := l.block, (from-len(l.start))%max(len(l.block), 1)
		if from < len(l.start) {
			source, at = l.start, from
		}
		piece := source[at:min(len(source), at+to-from)]
		parts = append(parts, piece)
		from += len(piece)
	}
	return parts
}

// An image of one layer, whose digests are known before the clock starts.
type image struct {
	layer                     layer
	config, manifest          []byte
	layerDigest, configDigest string
}

func digest(parts ...[]byte) string {
	sum := sha256.New()
	for _, part := range parts {
		sum.Write(part)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

func makeImages(p *push, count int) []image {
	if p.Same {
		count = 1
	}
	block := make([]byte, min(p.Size, 1<<20))
	rand.Read(block)
	images := make([]image, count)
	for number := range images {
		layer := layer{make([]byte, min(p.Size, 16)), block, p.Size}
		rand.Read(layer.start)
		layerDigest := digest(layer.part(0, p.Size)...)
		config := []byte(fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}`, layerDigest))
		manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","digest":"%s","size":%d},"layers":[{"mediaType":"%s","digest":"%s","size":%d}]}`,
			"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json", digest(config), len(config),
			"application/vnd.oci.image.layer.v1.tar", layerDigest, p.Size)
		images[number] = image{layer, config, []byte(manifest), layerDigest, digest(config)}
	}
	return images
}

// Pushes as clients do: asks for each blob, uploads it, then sends the manifest.
func (i image) send(c *connection, p *push, number int64) error {
	repository := strings.ReplaceAll(p.Repository, "%d", fmt.Sprint(number))
	tag := strings.ReplaceAll(p.Tag, "%d", fmt.Sprint(number))
	base := "/v2/" + repository
	if err := c.upload(base, i.layer, i.layerDigest, p.Chunk); err != nil {
		return err
	}
	if err := c.upload(base, layer{start: i.config, size: len(i.config)}, i.configDigest, 0); err != nil {
		return err
	}
	answer, err := c.do("PUT", base+"/manifests/"+tag, net.Buffers{i.manifest}, "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n", nil)
	return expect(answer, err, 201, "PUT manifest")
}

func main() {
	var p plan
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	r := &run{plan: p, report: report{Errors: []string{}}}
	if p.Push != nil {
		r.images = makeImages(p.Push, max(p.Iterations/max(p.Share, 1), 1))
	}
	idle := make([]*connection, p.Idle)
	for number := range idle {
		idle[number] = r.connection()
	}
	r.askIdle(idle)
	began := time.Now()
	r.deadline = began.Add(time.Duration(p.Seconds * float64(time.Second)))
	var group sync.WaitGroup
	for range p.Connections {
		group.Add(1)
		go func() {
			defer group.Done()
			r.work()
		}()
	}
	group.Wait()
	r.report.Seconds = time.Since(began).Seconds()
	r.askIdle(idle)
	r.report.Iterations = int64(len(r.took))
	sort.Float64s(r.took)
	if len(r.took) > 0 {
		r.report.P50 = r.took[len(r.took)/2]
		r.report.P99 = r.took[len(r.took)*99/100]
	}
	json.NewEncoder(os.Stdout).Encode(r.report)
}
