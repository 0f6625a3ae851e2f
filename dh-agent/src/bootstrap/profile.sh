# The shell environment of a dh engine. dh writes this file anew; your own settings go into ~/.profile and ~/.bashrc.
for dh_bin in "$HOME/.local/bin" "$DH_ROOT/opt/dh/bin"; do
    case ":$PATH:" in
    *":$dh_bin:"*) ;;
    *) PATH="$dh_bin:$PATH" ;;
    esac
done
unset dh_bin
export PATH
case $- in
*i*)
    if [ -n "${BASH_VERSION-}" ]; then
        PS1="[\\u@$DH_ENGINE \\W]\\\$ "
    else
        PS1="[$DH_ENGINE] \$ "
    fi
    ;;
esac
