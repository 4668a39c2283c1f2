// The theme makes these in the browser: without a name for a screen reader, and without a way to them by keyboard.
const mend = () => {
  const number = (found, what) => found.forEach((one, n) => one.setAttribute("aria-label", `${what} ${n + 1}`));
  number(document.querySelectorAll(".md-code__nav"), "Buttons of code");
  number(document.querySelectorAll(".md-code__button"), "Copy code");
  const wide = [...document.querySelectorAll(".md-typeset__scrollwrap")].filter((one) => one.scrollWidth > one.clientWidth);
  number(wide, "Table");
  wide.forEach((one) => { one.tabIndex = 0; one.setAttribute("role", "region"); });
};
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
addEventListener("resize", mend);
mend();
