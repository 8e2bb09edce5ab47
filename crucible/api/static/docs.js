// Sends what a form of /docs describes and shows the answer.
"use strict";

function requestOf(form) {
  const query = new URLSearchParams();
  const headers = {};
  let path = form.dataset.path;
  for (const input of form.querySelectorAll("input")) {
    if (input.dataset.in === "path") {
      path = path.replace(`{${input.name}}`, encodeURIComponent(input.value));
    } else if (input.value !== "" && input.dataset.in === "query") {
      query.set(input.name, input.value);
    } else if (input.value !== "") {
      headers[input.name] = input.value;
    }
  }
  const text = form.querySelector("textarea");
  if (text) headers["Content-Type"] = "application/json";
  return [
    path + (query.size ? `?${query}` : ""),
    { method: form.dataset.method, headers, body: text ? text.value : undefined },
  ];
}

async function send(event) {
  event.preventDefault();
  const shown = event.target.parentElement.querySelector(".answer");
  shown.textContent = "…";
  try {
    const response = await fetch(...requestOf(event.target));
    let text = await response.text();
    try {
      text = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // Not JSON: shown as it is.
    }
    shown.textContent = `${response.status} ${response.statusText}\n\n${text}`;
  } catch (error) {
    shown.textContent = String(error);
  }
}

for (const form of document.querySelectorAll("form")) form.addEventListener("submit", send);
