// Copies what stands in data-copy of a button; without it the buttons stay hidden, and everything else works.
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

for (const button of document.querySelectorAll("button.copy")) {
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
