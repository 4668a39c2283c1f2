for (const button of document.querySelectorAll("button.copy")) {
  const source = document.getElementById(button.dataset.source);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    button.textContent = "copied";
  });
}
