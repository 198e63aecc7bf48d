/** Pages without data: sign-in, errors. */
import "./frame.ts";
