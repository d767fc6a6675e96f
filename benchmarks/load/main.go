// Loads a registry as fast as it answers, checks every answer, and prints what it saw as JSON.
//
// A plan in JSON comes on stdin. With "requests" it pulls: each connection sends them one after the other, or, with
// "sequence", all of them as one iteration. With "push" it pushes images whose blobs were made before the clock started.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
	Seconds       float64   `json:"seconds"`    // of a pull; 0 means by iterations
	Iterations    int       `json:"iterations"` // of all connections together
	Authorization string    `json:"authorization"`
	Requests      []request `json:"requests"`
	Sequence      bool      `json:"sequence"`
	Push          *push     `json:"push"`
}

type request struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Status int    `json:"status"`
	Length int64  `json:"length"` // of the body, or for HEAD of what it announces; -1 is any
	Digest string `json:"digest"` // compared for one answer in 64, "" for none
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
	if r.plan.Seconds > 0 {
		if time.Now().After(r.deadline) {
			return -1
		}
		return number
	}
	if number >= int64(r.plan.Iterations) {
		return -1
	}
	return number
}

func (r *run) work(number int) {
	c := &connection{address: r.plan.Address, authorization: r.plan.Authorization}
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
	if r.plan.Push != nil {
		return r.images[iteration%int64(len(r.images))].send(c, r.plan.Push, iteration)
	}
	requests := r.plan.Requests
	if !r.plan.Sequence {
		place := iteration % int64(len(requests))
		requests = requests[place : place+1]
	}
	for _, request := range requests {
		if err := c.pull(request, iteration%64 == 0); err != nil {
			return err
		}
	}
	return nil
}

// An image of one layer, whose digests are known before the clock starts.
type image struct {
	layer, config, manifest   []byte
	layerDigest, configDigest string
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Only the first bytes differ, so that a thousand images need little memory: the rest is shared.
func makeImages(p *push, count int) []image {
	if p.Same {
		count = 1
	}
	rest := make([]byte, p.Size)
	rand.Read(rest)
	images := make([]image, count)
	for number := range images {
		layer := rest
		if count > 1 {
			layer = append([]byte(nil), rest...)
			rand.Read(layer[:min(len(layer), 16)])
		}
		config := []byte(fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}`, digest(layer)))
		manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","digest":"%s","size":%d},"layers":[{"mediaType":"%s","digest":"%s","size":%d}]}`,
			"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json", digest(config), len(config),
			"application/vnd.oci.image.layer.v1.tar", digest(layer), len(layer))
		images[number] = image{layer, config, []byte(manifest), digest(layer), digest(config)}
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
	if err := c.upload(base, i.config, i.configDigest, 0); err != nil {
		return err
	}
	answer, err := c.do("PUT", base+"/manifests/"+tag, i.manifest, "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n", nil)
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
		r.images = makeImages(p.Push, p.Iterations)
	}
	began := time.Now()
	r.deadline = began.Add(time.Duration(p.Seconds * float64(time.Second)))
	var group sync.WaitGroup
	for number := 0; number < p.Connections; number++ {
		group.Add(1)
		go func() {
			defer group.Done()
			r.work(number)
		}()
	}
	group.Wait()
	r.report.Seconds = time.Since(began).Seconds()
	r.report.Iterations = int64(len(r.took))
	sort.Float64s(r.took)
	if len(r.took) > 0 {
		r.report.P50 = r.took[len(r.took)/2]
		r.report.P99 = r.took[len(r.took)*99/100]
	}
	json.NewEncoder(os.Stdout).Encode(r.report)
}
