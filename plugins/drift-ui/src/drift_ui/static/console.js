// Copies what stands in data-copy of a button, and keeps up to date the part of a page that changes by itself; without
// it these buttons stay hidden, a page is loaded anew by its link, and everything else works.
"use strict";

function copied(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text);
  }
  // Over plain http browsers have no other way.
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("readonly", "");
  area.className = "unseen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done ? Promise.resolve() : Promise.reject(new Error("the browser does not let pages copy"));
}

function offerToCopy(part) {
  for (const button of part.querySelectorAll("button.copy")) {
    button.hidden = false;
    const said = button.firstChild;
    button.addEventListener("click", () => {
      copied(button.dataset.copy).then(
        () => { said.textContent = "Copied"; },
        () => { said.textContent = "Not copied"; },
      );
      setTimeout(() => { said.textContent = "Copy"; }, 2000);
    });
  }
}

const FOCUSED = "a, button, summary, [tabindex]";
const AGAIN_MILLISECONDS = 15000;

// Puts in place what is new, and leaves whoever uses the part where they were.
function replace(part, text) {
  const focused = Array.from(part.querySelectorAll(FOCUSED)).indexOf(document.activeElement);
  const open = Array.from(part.querySelectorAll("details"), (one) => one.open);
  const scrolled = Array.from(part.querySelectorAll(".scroll"), (one) => one.scrollLeft);
  const made = document.createElement("template");
  made.innerHTML = text;
  part.replaceChildren(made.content);
  part.querySelectorAll("details").forEach((one, place) => { one.open = Boolean(open[place]); });
  part.querySelectorAll(".scroll").forEach((one, place) => { one.scrollLeft = scrolled[place] || 0; });
  offerToCopy(part);
  if (focused >= 0) {
    const there = part.querySelectorAll(FOCUSED)[focused];
    if (there) {
      there.focus({ preventScroll: true });
    }
  }
}

function follow(part) {
  const said = document.getElementById("following");
  const pause = document.getElementById("pause");
  let stream = null;
  let paused = false;
  let over = false;
  let again = 0;
  let waiting = null;

  function show(text) {
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && part.contains(selection.anchorNode)) {
      // Somebody is about to copy it.
      waiting = text;
      return;
    }
    waiting = null;
    replace(part, text);
  }

  function end() {
    clearTimeout(again);
    if (stream) {
      stream.close();
      stream = null;
    }
  }

  function begin() {
    // A browser has few connections for all of its pages: those that nobody sees need none.
    if (stream || paused || over || document.hidden) {
      return;
    }
    clearTimeout(again);
    const mine = new EventSource(part.dataset.source);
    stream = mine;
    mine.addEventListener("live", (event) => {
      said.textContent = "";
      show(JSON.parse(event.data));
    });
    mine.addEventListener("failed", () => { said.textContent = "It cannot be brought up to date now."; });
    mine.addEventListener("end", () => {
      over = true;
      end();
      said.textContent = "You may not see this any more.";
    });
    mine.addEventListener("replaced", () => {
      end();
      said.textContent = "Newer pages of yours are kept up to date instead.";
    });
    mine.addEventListener("error", () => {
      // Else it asks again by itself.
      if (mine.readyState === EventSource.CLOSED && stream === mine) {
        end();
        said.textContent = "It is not brought up to date now.";
        again = setTimeout(begin, AGAIN_MILLISECONDS);
      }
    });
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on updating" : "Pause updates";
    if (paused) {
      end();
    } else {
      begin();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      end();
    } else {
      begin();
    }
  });
  document.addEventListener("selectionchange", () => {
    if (waiting !== null) {
      show(waiting);
    }
  });
  addEventListener("pagehide", end);
  addEventListener("pageshow", begin);
  begin();
}

offerToCopy(document);
const live = document.getElementById("live");
if (live && live.dataset.source) {
  follow(live);
}
